"""Server-sent events out of bytes that are cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sfumato.client.watching import EventDecoder

STREAM = (
    b"retry: 1000\n\n"
    b'id: 1\nevent: queued\ndata: {"at":"2026-11-21T05:00:00.000+00:00"}\n\n'
    b": keep-alive\n\n"
    b'id: 2\r\nevent: failed\r\ndata: {"at":"2026-11-21T05:00:01.500+00:00","code":"x",'
    b'"message":"a: b\xe2\x80\xa8\xc3\xa9"}\r\n\r\n'
)


@given(st.lists(st.integers(0, len(STREAM))))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    decoder = EventDecoder("job")
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    first, second = [event for piece in pieces for event in decoder.feed(piece)]
    assert (first.job_id, first.number, first.kind, first.data) == ("job", 1, "queued", {})
    assert second.data == {"code": "x", "message": "a: b\u2028é"}
    assert second.at - first.at == 1.5
