"""Compute Engine: ``instance/preempted`` of the metadata server."""

from __future__ import annotations

import httpx

from sfumato.core.ports import SpotNotice

_GOOGLE = {"Metadata-Flavor": "Google"}
#: Seconds from the notice to the machine's end.
_NOTICE_SECONDS = 30.0
#: Seconds after which the server answers even without a change.
_WAIT_SECONDS = 60


class GcpSpot:
    """``FALSE`` until the machine is preempted; the server answers at the change.

    https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption
    """

    address = "http://metadata.google.internal"
    interval = 0.0

    def __init__(self) -> None:
        self._etag: str | None = None

    async def ask(self, http: httpx.AsyncClient, *, now: float) -> SpotNotice | None:
        # The first question is answered at once: a change before it would not be seen by waiting.
        waiting = {"wait_for_change": "true", "timeout_sec": str(_WAIT_SECONDS)}
        answer = await http.get(
            "/computeMetadata/v1/instance/preempted",
            params={} if self._etag is None else {**waiting, "last_etag": self._etag},
            headers=_GOOGLE,
            timeout=httpx.Timeout(_WAIT_SECONDS + 10.0, connect=2.0),
        )
        answer.raise_for_status()
        if answer.headers.get("Metadata-Flavor") != "Google":
            raise ValueError("this is not Google's metadata server")
        if answer.text.strip() == "TRUE":
            return SpotNotice(now + _NOTICE_SECONDS, "Compute Engine preempts it")
        self._etag = answer.headers.get("ETag", "0")
        return None
