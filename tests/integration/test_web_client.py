"""Callers name addresses: which are reached, and that none leads to where only we can go."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence

import pytest

from sfumato.adapters.web_client import GuardedWebClient
from sfumato.core.errors import InvalidRequest, Unavailable
from tests.support.answers import Answers

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
PICTURE = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n\x89PNG"


@contextlib.asynccontextmanager
async def client(**more: object) -> AsyncIterator[GuardedWebClient]:
    given = {"plain_http": True, "networks": [LOOPBACK], "timeout": 10.0, **more}
    async with GuardedWebClient(**given) as guarded:  # type: ignore[arg-type]
        yield guarded


def knowing(*addresses: str) -> dict[str, object]:
    """A resolver to whom every name has these addresses."""

    async def names(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return {"names": names}


async def read(port: int, path: str = "/a.png", *, limit: int = 1 << 20, **more: object) -> bytes:
    async with client(**more) as guarded:
        return await guarded.read(f"http://127.0.0.1:{port}{path}", field="image", limit=limit)


async def test_a_picture_is_read_from_where_the_operator_allows() -> None:
    answers = Answers(PICTURE)
    async with answers.serving() as port:
        assert await read(port) == b"\x89PNG"
    assert f"Host: 127.0.0.1:{port}" in answers.heads[0]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
        "0.0.0.0",  # noqa: S104 - the address, not a binding
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]"),
        *("[2002:7f00:1::]", "[2002:a9fe:a9fe::]"),
    ],
)
async def test_no_form_of_a_private_address_is_reached(host: str) -> None:
    async with client(networks=[]) as guarded:
        for url in (f"http://{host}/", f"https://{host}:8080/x"):
            with pytest.raises(
                InvalidRequest, match=r"private network|not known|no address"
            ) as refused:
                await guarded.read(url, field="image", limit=1)
            assert refused.value.field == "image"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["2606:4700::1", "::1"]]
)
async def test_a_name_with_one_private_address_is_not_reached(addresses: list[str]) -> None:
    async with client(networks=[], **knowing(*addresses)) as guarded:
        with pytest.raises(InvalidRequest, match="private network"):
            await guarded.read("https://pictures.example/a.png", field="image", limit=1)


async def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    asked: list[str] = []

    async def names(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    answers = Answers(PICTURE)
    async with answers.serving() as port, client(names=names) as guarded:
        url = f"http://pictures.example:{port}/a.png"
        assert await guarded.read(url, field="image", limit=100) == b"\x89PNG"
        assert asked == ["pictures.example"]
        assert f"Host: pictures.example:{port}" in answers.heads[0]
        with pytest.raises(InvalidRequest, match="private network"):
            await guarded.read(url, field="image", limit=100)


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://", "https://", "//host/x", "host/x", "/etc/passwd", "file:///etc/passwd"),
        *("ftp://example.com/a.png", "gopher://example.com/", "data:image/png;base64,AA=="),
        *(
            "https://user:secret@example.com/",
            "https://exa mple.com/",
            "https://[::1",
            "https://\x00",
        ),
        "https://example.com/" + "a" * 3_000,
    ],
)
async def test_what_is_no_address_is_refused_without_asking_anybody(url: str) -> None:
    async with client() as guarded:
        with pytest.raises(InvalidRequest, match="address") as refused:
            guarded.check(url, field="image")
    assert "secret" not in str(refused.value)


async def test_plain_http_is_refused_unless_the_operator_allows_it() -> None:
    async with GuardedWebClient() as guarded:
        with pytest.raises(InvalidRequest):
            guarded.check("http://example.com/a.png", field="image")
        guarded.check("https://example.com/a.png", field="image")


async def test_a_redirect_may_lead_to_the_same_server_alone() -> None:
    onward = b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\nContent-Length: 0\r\n\r\n"
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:1/\r\nContent-Length: 0\r\n\r\n"
    answers = Answers(onward, PICTURE, away, *[onward] * 9)
    async with answers.serving() as port:
        assert await read(port) == b"\x89PNG"
        with pytest.raises(InvalidRequest, match="sends on to another"):
            await read(port)
        with pytest.raises(InvalidRequest, match="on and on"):
            await read(port)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (PICTURE.replace(b"image/png", b"text/html"), "no picture"),
        (PICTURE.replace(b"Content-Type", b"Content-Encoding: gzip\r\nContent-Type"), "no picture"),
        (PICTURE.replace(b"Length: 4", b"Length: 9"), "can't be read"),
        (b"nonsense\r\n\r\n", "can't be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + bytes(2_000), "more than"),
    ],
)
async def test_an_answer_that_is_no_picture_is_refused(answer: bytes, words: str) -> None:
    async with Answers(answer).serving() as port:
        with pytest.raises(InvalidRequest, match=words):
            await read(port, limit=1_000)


async def test_who_sends_slowly_is_not_waited_for() -> None:
    slow = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n..."
    async with Answers(slow).serving() as port:
        with pytest.raises(InvalidRequest, match="did not send"):
            await read(port, timeout=0.2)


async def test_a_webhook_is_told_and_its_redirects_are_not_followed() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    answers = Answers(b"HTTP/1.1 204 No Content\r\n\r\n", moved)
    async with answers.serving() as port, client() as guarded:
        url = f"http://127.0.0.1:{port}/hook"
        assert await guarded.post(url, b"{}", headers={"webhook-id": "m1"}) == 204
        assert "webhook-id: m1" in answers.heads[0]
        assert await guarded.post(url, b"{}", headers={}) == 307
    async with client() as guarded:
        with pytest.raises(Unavailable, match="can't be reached"):
            await guarded.post(url, b"{}", headers={})
