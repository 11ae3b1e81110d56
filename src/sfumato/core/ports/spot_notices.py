"""What a cloud says before it takes a machine back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """This machine will be gone.

    Attributes:
        ends_at: when, in seconds since the epoch.
        reason: what the cloud calls it.
    """

    ends_at: float
    reason: str


class SpotNotices(Protocol):
    async def next(self) -> SpotNotice:
        """Returns once there is a notice for this machine; a cloud that does not answer is asked
        again and again."""
        ...
