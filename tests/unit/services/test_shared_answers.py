"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio

import pytest

from sfumato.core.errors import Unavailable
from sfumato.services.shared_answers import SharedAnswers


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


async def test_what_many_ask_is_asked_once_and_again_when_it_is_old() -> None:
    clock, asked = Clock(), list[str]()

    async def ask(name: str) -> int:
        asked.append(name)
        await asyncio.sleep(0)
        return len(asked)

    answers = SharedAnswers(ask, clock=clock, max_age=2.0)
    both = answers.of("a"), answers.of("a")
    assert both[0] is both[1]
    assert both[0].at == clock.seconds
    assert await both[0].answer == 1
    assert await answers.of("b").answer == 2
    clock.seconds += 2.0
    assert await answers.of("a").answer == 1
    clock.seconds += 0.1
    assert await answers.of("a").answer == 3
    assert asked == ["a", "b", "a"]


async def test_a_failure_is_an_answer_until_it_is_old() -> None:
    clock, failures = Clock(), [Unavailable("It is down.")]

    async def ask(name: str) -> str:
        if failures:
            raise failures.pop()
        return name

    answers = SharedAnswers(ask, clock=clock, max_age=1.0)
    for _ in range(2):
        with pytest.raises(Unavailable, match="down"):
            await answers.of("a").answer
    clock.seconds += 1.5
    assert await answers.of("a").answer == "a"
