"""Azure: ``scheduledevents`` of the instance metadata service."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from sfumato.core.ports import SpotNotice

_AZURE = {"Metadata": "true"}
#: Events after which this process is gone; a freeze is over in seconds.
_FINAL = frozenset(("Preempt", "Terminate", "Reboot", "Redeploy"))


class AzureSpot:
    """A list of events, of all machines of a scale set; those that name this one count.

    https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
    """

    address = "http://169.254.169.254"
    #: Azure gives 30 seconds' notice of an eviction, and recommends to ask every second.
    interval = 1.0

    def __init__(self) -> None:
        self._name: str | None = None

    async def ask(self, http: httpx.AsyncClient, *, now: float) -> SpotNotice | None:
        if self._name is None:
            self._name = await self._ask_name(http)
        answer = await http.get(
            "/metadata/scheduledevents", params={"api-version": "2020-07-01"}, headers=_AZURE
        )
        answer.raise_for_status()
        try:
            ours = [
                _notice(event, now=now)
                for event in answer.json()["Events"]
                if event["EventType"] in _FINAL and self._name in event["Resources"]
            ]
        except (KeyError, TypeError) as error:
            raise ValueError("scheduled events without type, time or machines") from error
        return min(ours, key=lambda notice: notice.ends_at, default=None)

    async def _ask_name(self, http: httpx.AsyncClient) -> str:
        answer = await http.get(
            "/metadata/instance/compute/name",
            params={"api-version": "2021-02-01", "format": "text"},
            headers=_AZURE,
        )
        answer.raise_for_status()
        return answer.text.strip()


def _notice(event: dict[str, Any], *, now: float) -> SpotNotice:
    # An event that has begun has no time any more.
    not_before = event["NotBefore"]
    ends_at = parsedate_to_datetime(not_before).timestamp() if not_before else now
    return SpotNotice(ends_at, f"Azure's event {event['EventType']}")
