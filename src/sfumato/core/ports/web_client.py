"""Addresses that a caller names: pictures to read, webhooks to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class WebClient(Protocol):
    """Reaches the open internet and nothing that only this machine or its network can reach."""

    def check(self, url: str, *, field: str) -> None:
        """Refuse an address by its looks, without asking anybody.

        Args:
            field: the request's field that it came in, for the error.

        Raises:
            InvalidRequest: it is no address that may be reached.
        """
        ...

    async def read(self, url: str, *, field: str, limit: int) -> bytes:
        """What lies at an address, at most ``limit`` bytes.

        Raises:
            InvalidRequest: it must not be reached, can't be, answers something else than a
                picture, or too much, or too slowly.
        """
        ...

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        """Send a body; answers the status. Redirects are not followed.

        Raises:
            InvalidRequest: it must not be reached.
            Unavailable: nobody answered in time.
        """
        ...
