"""Asks a metadata server until it gives notice, whatever befalls the asking."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import httpx

from sfumato.core.ports import Clock, SpotNotice

log = logging.getLogger(__name__)

#: A metadata server is on the machine itself; one that is not there is found out soon.
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
#: Seconds between two questions while nobody answers.
_AGAIN_AFTER = 10.0


class Metadata(Protocol):
    """One cloud's metadata server.

    Attributes:
        address: where it is, unless told otherwise.
        interval: seconds between two questions.
    """

    address: str
    interval: float

    async def ask(self, http: httpx.AsyncClient, *, now: float) -> SpotNotice | None:
        """One question; None: no notice.

        Raises ``httpx.HTTPError``, or ``ValueError`` for an answer that it can't have given.
        """
        ...


class MetadataSpotNotices:
    """Implements :class:`sfumato.core.ports.SpotNotices`.

    Args:
        address: in place of the cloud's own.
        again_after: seconds between two questions while nobody answers.
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        clock: Clock,
        address: str | None = None,
        again_after: float = _AGAIN_AFTER,
    ) -> None:
        self._metadata = metadata
        self._clock = clock
        self._address = address or metadata.address
        self._again_after = again_after

    async def next(self) -> SpotNotice:
        complained = False
        # No proxy of the environment's: it would ask its own machine's metadata server.
        async with httpx.AsyncClient(
            base_url=self._address, timeout=_TIMEOUT, trust_env=False
        ) as http:
            while True:
                try:
                    notice = await self._metadata.ask(http, now=self._clock.now())
                except (httpx.HTTPError, ValueError) as error:
                    if not complained:
                        complained = True
                        log.warning(
                            "spot notices can't be read from %s, and are asked for again: %s",
                            self._address,
                            str(error) or type(error).__name__,
                        )
                    await asyncio.sleep(self._again_after)
                    continue
                complained = False
                if notice is not None:
                    return notice
                await asyncio.sleep(self._metadata.interval)
