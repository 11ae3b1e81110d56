"""What a person sees of a job where there is no terminal to draw a bar on."""

from __future__ import annotations

import io
import threading
from typing import Any

from sfumato.cli.progress import Display, Follower, Lines, Stage
from sfumato.core.events import Event, EventKind


def event(kind: EventKind, **data: Any) -> Event:
    return Event("job", 1, kind, 0.0, data)


def shown(*events: Event) -> list[str]:
    stream = io.StringIO()
    lines, stage = Lines(stream), Stage("queued")
    for one in events:
        stage = stage.after(one)
        lines.show(stage)
    return stream.getvalue().splitlines()


def test_every_state_is_a_line_and_steps_are_told_at_each_quarter() -> None:
    assert shown(
        event(EventKind.QUEUED),
        event(EventKind.STARTED, attempt=1, worker="w"),
        event(EventKind.LOADING, model="starter"),
        *(event(EventKind.STEP, step=step, steps=40) for step in range(1, 41)),
        event(EventKind.IMAGE, index=0),
        event(EventKind.SUCCEEDED, images=1),
    ) == [
        "queued",
        "starting",
        "loading starter",
        "denoising 1/40",
        "denoising 10/40",
        "denoising 20/40",
        "denoising 30/40",
        "denoising 40/40",
        "storing image 1",
        "succeeded",
    ]


def test_a_model_that_is_copied_first_is_told_in_percent() -> None:
    assert shown(
        *(
            event(EventKind.LOADING, model="photo", bytes_done=done, bytes_total=4000)
            for done in (0, 10, 1800, 1900, 4000)
        ),
        event(EventKind.LOADING, model="photo"),
    ) == ["loading photo 0 %", "loading photo 45 %", "loading photo 100 %", "loading photo"]


def test_a_second_attempt_says_why_and_counts_anew() -> None:
    assert shown(
        event(EventKind.STEP, step=9, steps=10),
        event(EventKind.QUEUED, reason="the worker vanished"),
        event(EventKind.STEP, step=1, steps=10),
    ) == ["denoising 9/10", "queued: the worker vanished", "denoising 1/10"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert shown(event(EventKind.QUEUED, reason="\x1b[2J")) == ["queued:  [2J"]


class Record(Display):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.told = threading.Event()

    def show(self, stage: Stage) -> None:
        self.texts.append(stage.text)
        self.told.set()


def test_a_waiting_job_says_why_until_a_worker_has_it() -> None:
    record = Record()
    follower = Follower(record, lambda: "queued behind 12", poll_seconds=0.001)
    with follower.following() as take:
        assert record.told.wait(30)
        take(event(EventKind.STARTED))
        take(event(EventKind.STEP, step=1, steps=2))
    assert set(record.texts[:-2]) == {"waiting: queued behind 12"}
    assert record.texts[-2:] == ["starting", "denoising"]
