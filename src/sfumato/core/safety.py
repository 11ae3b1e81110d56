"""Whether pictures are looked at before they are delivered, and what becomes of those found unsafe."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sfumato.core.errors import InvalidRequest

#: How the note begins that tells of an unsafe picture, and the one that tells that nobody looked.
UNSAFE, NOT_CHECKED = "unsafe: ", "not checked: "


class Safety(StrEnum):
    """What becomes of a picture that a safety checker finds unsafe."""

    OFF = "off"  #: nobody looks
    FLAG = "flag"  #: it is delivered, and the job and the recipe say so
    BLOCK = "block"  #: it is not delivered; its job fails


@dataclass(frozen=True, slots=True)
class SafetyRule:
    """What the operator wants.

    Attributes:
        mode: None: flag what is found where there is a checker; that is no promise, so where there
            is none nothing is said.
        checker: a safety checker of the catalogue, for every model; None: the one that lies in the
            model's own folder.
    """

    mode: Safety | None = None
    checker: str | None = None

    def settled(self, model: str, *, carries_checker: bool) -> SettledSafety:
        """What holds for one job.

        Args:
            model: its name.
            carries_checker: whether it has one of its own.

        Raises:
            InvalidRequest: nothing may leave unchecked, and there is no checker.
        """
        if self.mode is Safety.OFF:
            return SettledSafety(Safety.OFF)
        if self.checker is not None or carries_checker:
            return SettledSafety(self.mode or Safety.FLAG, self.checker)
        if self.mode is Safety.BLOCK:
            raise InvalidRequest(
                f"Every picture is checked here before it is delivered, but {model!r} carries no "
                "safety checker.",
                field="model",
                accepted="a model that carries one; or let the operator name one for all by "
                "SFUMATO_SAFETY_CHECKER",
            )
        notes = () if self.mode is None else (f"{NOT_CHECKED}{model} carries no safety checker",)
        return SettledSafety(Safety.OFF, notes=notes)


@dataclass(frozen=True, slots=True)
class SettledSafety:
    """What holds for one job. ``checker``: as of :class:`SafetyRule`."""

    mode: Safety
    checker: str | None = None
    notes: tuple[str, ...] = ()
