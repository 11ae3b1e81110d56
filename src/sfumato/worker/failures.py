"""Failures as values, so that what comes of them is decided when their frames are gone."""

from __future__ import annotations

from collections.abc import Callable


def failure_of(action: Callable[[], None]) -> Exception | None:
    """What an action raised, whose failure it is to be found out by the caller.

    Outside of an ``except`` block: what the failure has in memory would be missing there.
    """
    try:
        action()
    except Exception as error:  # noqa: BLE001 - see above
        return error
    return None
