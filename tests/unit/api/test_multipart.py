"""Bodies of several parts: split as they were joined, or refused, whatever they hold."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.api.multipart import MAX_PARTS, parts_of
from sfumato.api.problems import InvalidMultipart

FORM = "multipart/form-data; boundary=xyz"


def joined(files: dict[str, bytes]) -> tuple[bytearray, str]:
    """As httpx joins them."""
    request = httpx.Request("POST", "http://sfumato/", files=files)
    return bytearray(request.read()), request.headers["Content-Type"]


@given(
    st.dictionaries(
        st.text("abc.-_ 0123456789é", min_size=1, max_size=20), st.binary(max_size=200), min_size=1
    )
)
def test_parts_come_apart_as_they_were_joined(files: dict[str, bytes]) -> None:
    files = dict(list(files.items())[:MAX_PARTS])
    body, content_type = joined(files)
    assert {name: bytes(part) for name, part in parts_of(body, content_type).items()} == files


@given(st.binary(max_size=300))
def test_anything_else_is_refused(rest: bytes) -> None:
    for body in (rest, b"--xyz" + rest, b"--xyz\r\n" + rest + b"\r\n--xyz"):
        try:
            parts_of(bytearray(body), FORM)
        except InvalidMultipart as error:
            assert error.accepted  # noqa: PT017 - either is right


@given(st.text(max_size=50))
def test_any_header_is_read_or_refused(rest: str) -> None:
    with pytest.raises(InvalidMultipart):
        parts_of(bytearray(b"no such form"), "multipart/form-data; " + rest.replace("\n", ""))


def test_cut_off_anywhere_it_is_refused() -> None:
    body, content_type = joined({"request": b"{}", "init": bytes(100)})
    whole = len(body) - len(b"--\r\n")
    for length in range(whole):
        with pytest.raises(InvalidMultipart):
            parts_of(body[:length], content_type)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no part"),
        (b"--xyz--", "_nothing"),
        (b"--xyz\r\n\r\nnameless\r\n--xyz--", "without a name"),
        (b"--xyz\r\nA: b\r\n\r\nnameless\r\n--xyz--", "without a name"),
        (b'--xyz\r\nContent-Disposition: form-data; filename="a"\r\n\r\n\r\n--xyz--', "a name"),
        (b'--xyz\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\r\n--xyz--', "a name"),
        (b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1' * 2 + b"\r\n--xyz--", ""),
        (
            b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 2 + b"--xyz--",
            "two parts",
        ),
        (b"--xyz\r\nA: " + b"b" * 5000 + b"\r\n\r\n\r\n--xyz--", "can't be read"),
        (
            b"".join(
                b'--xyz\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % n
                for n in range(MAX_PARTS + 1)
            )
            + b"--xyz--",
            "more than 16",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(body: bytes, words: str) -> None:
    if words in {"_nothing", ""}:
        assert len(parts_of(bytearray(body), FORM)) == (0 if words else 1)
        return
    with pytest.raises(InvalidMultipart, match=words):
        parts_of(bytearray(body), FORM)


def test_without_a_boundary_it_can_not_be_read() -> None:
    for header in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 71):
        with pytest.raises(InvalidMultipart, match="names no boundary"):
            parts_of(bytearray(b"--xyz--"), header)
