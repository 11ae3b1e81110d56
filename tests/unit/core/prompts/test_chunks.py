from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.prompts import Break, Chunk, split_into_chunks
from sfumato.core.prompts.chunks import COMMA_REACH

COMMA = 0


def lengths(ids: list[int], room: int = 75) -> list[int]:
    return [len(c.ids) for c in split_into_chunks([(ids, 1.0)], room=room, comma=COMMA)]


def test_what_fits_is_one_chunk_and_nothing_is_one_too() -> None:
    assert split_into_chunks([], room=75, comma=COMMA) == [Chunk()]
    assert split_into_chunks([([5, 6], 1.0), ([7], 1.2)], room=75, comma=COMMA) == [
        Chunk((5, 6, 7), (1.0, 1.0, 1.2))
    ]
    assert lengths([9] * 75) == [75]
    assert lengths([9] * 76) == [75, 1]


def test_a_full_chunk_ends_at_a_comma_that_is_near() -> None:
    near = [9] * (75 - COMMA_REACH) + [COMMA] + [9] * 40
    assert lengths(near) == [75 - COMMA_REACH + 1, 40]
    far = [9] * (75 - COMMA_REACH - 1) + [COMMA] + [9] * 41
    assert lengths(far) == [75, 21]
    assert lengths([9] * 74 + [COMMA] + [9]) == [75, 1]
    assert lengths([9] * 75 + [COMMA] + [9]) == [75, 2]


def test_a_break_ends_a_chunk_and_two_leave_an_empty_one() -> None:
    runs = [([1], 1.0), Break(), ([2], 1.0)]
    assert [c.ids for c in split_into_chunks(runs, room=75, comma=None)] == [(1,), (2,)]
    runs = [Break(), ([1], 1.0), Break(), Break(), ([2], 1.0), Break()]
    assert [c.ids for c in split_into_chunks(runs, room=75, comma=None)] == [(), (1,), (), (2,)]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=60), st.floats(0, 2)), max_size=6),
    st.integers(1, 80),
)
def test_no_token_is_lost_and_no_chunk_is_too_long(
    runs: list[tuple[list[int], float]], room: int
) -> None:
    chunks = split_into_chunks(runs, room=room, comma=COMMA)
    assert [i for chunk in chunks for i in chunk.ids] == [i for ids, _ in runs for i in ids]
    weights = [weight for ids, weight in runs for _ in ids]
    assert [weight for chunk in chunks for weight in chunk.weights] == weights
    assert all(len(chunk.ids) <= room for chunk in chunks)
    assert all(chunk.ids for chunk in chunks) or len(chunks) == 1


def test_a_word_of_several_ids_stays_in_one_chunk_where_it_fits() -> None:
    runs = [([1, 2, 3], 1.0), ([100, 101, 102], 1.2), ([200, 201, 202, 203, 204, 205], 1.0)]
    chunks = split_into_chunks(runs, room=5, comma=None, lengths={100: 3, 200: 6})
    assert [chunk.ids for chunk in chunks] == [
        (1, 2, 3),
        (100, 101, 102, 200, 201),
        (202, 203, 204, 205),
    ]
