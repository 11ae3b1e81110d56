"""EC2: ``spot/instance-action`` of the instance metadata service, version 2."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from sfumato.core.ports import SpotNotice

_TOKEN_SECONDS = 21_600


class AwsSpot:
    """404 until there is a notice, two minutes ahead.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """

    address = "http://169.254.169.254"
    #: As AWS recommends.
    interval = 5.0

    def __init__(self) -> None:
        self._token: str | None = None

    async def ask(self, http: httpx.AsyncClient, *, now: float) -> SpotNotice | None:
        del now
        answer = await self._get(http)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the token has run out
            self._token = None
            answer = await self._get(http)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        action = answer.json()
        try:
            ends_at = datetime.strptime(action["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            return SpotNotice(ends_at.timestamp(), f"EC2 will {action['action']} it")
        except (KeyError, TypeError) as error:
            raise ValueError("an instance-action without action or time") from error

    async def _get(self, http: httpx.AsyncClient) -> httpx.Response:
        if self._token is None:
            seconds = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
            given = await http.put("/latest/api/token", headers=seconds)
            given.raise_for_status()
            self._token = given.text
        return await http.get(
            "/latest/meta-data/spot/instance-action",
            headers={"X-aws-ec2-metadata-token": self._token},
        )
