"""A pipeline's call, one step at a time.

A pipeline keeps its loop to itself and calls back at the end of each step. It runs in a thread of
its own that waits in this callback until it is told to go on, so from outside it looks as any other
slot: it can be watched, and left at any step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Told to the thread: go on, or end.
_GO, _END = True, False


class Abandoned(BaseException):
    """Raised inside the pipeline, to end it midway. No library catches it by mistake."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done. ``latents``: as the pipeline told them, if it did."""

    latents: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Returned:
    """The pipeline has returned: ``answer``."""

    answer: Any


@dataclass(frozen=True, slots=True, eq=False)
class Raised:
    error: BaseException


class PipelineRun:
    """A call that goes on by :meth:`advance`. The thread begins with the first.

    Args:
        call: runs the pipeline; its argument is what to call back with the latents after a step.

    Attributes:
        latents: of the last step.
    """

    def __init__(self, call: Callable[[Callable[[Tensor | None], None]], Any]) -> None:
        self._call = call
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[Stepped | Returned | Raised] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._over = False
        self._error: BaseException | None = None
        self.latents: Tensor | None = None
        self.answer: Any = None

    def advance(self) -> None:
        """One step, or what is left after the last; nothing once it has returned.

        Raises what the pipeline raises, which ends it; and that again from then on.
        """
        if self._error is not None:
            raise self._error
        if self._over:
            return
        if self._thread is None:
            # It refers to the queues alone, so that whoever forgets the run ends it.
            self._thread = threading.Thread(
                target=_main,
                args=(self._call, self._orders, self._reports),
                name="pipeline",
                daemon=True,
            )
            self._thread.start()
        self._orders.put(_GO)
        match self._reports.get():
            case Stepped(latents):
                self.latents = latents
            case Returned(answer):
                self._over, self.answer = True, answer
            case Raised(error):
                self._error = error
                raise error

    def advance_to_end(self) -> None:
        """Whatever is left of it. Raises as :meth:`advance`."""
        while not self._over:
            self.advance()

    def abandon(self) -> None:
        """End the thread at the step where it waits. The run can't go on."""
        self._over = True
        self._orders.put(_END)
        if self._thread is not None:
            self._thread.join()

    def __del__(self) -> None:
        self._orders.put(_END)


def _main(
    call: Callable[[Callable[[Tensor | None], None]], Any],
    orders: queue.SimpleQueue[bool],
    reports: queue.SimpleQueue[Stepped | Returned | Raised],
) -> None:
    def obey() -> None:
        if orders.get() is _END:
            raise Abandoned

    def stepped(latents: Tensor | None) -> None:
        reports.put(Stepped(latents))
        obey()

    try:
        obey()
        with torch.inference_mode():
            answer = call(stepped)
        reports.put(Returned(answer))
    except Abandoned:
        pass
    except BaseException as error:  # noqa: BLE001 - handed to whoever advances the run
        reports.put(Raised(error))


def callbacks(
    parameters: Mapping[str, object], stepped: Callable[[Tensor | None], None]
) -> dict[str, object]:
    """The argument of a pipeline's ``__call__`` by which it calls back; none where it has no such:
    then its steps can't be told apart."""
    if "callback_on_step_end" in parameters:

        def on_step_end(
            _pipe: object, _step: int, _time: object, given: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            stepped(given.get("latents"))
            return {}

        return {"callback_on_step_end": on_step_end}
    if "callback" in parameters:
        return {"callback": lambda _step, _time, latents: stepped(latents)}
    return {}
