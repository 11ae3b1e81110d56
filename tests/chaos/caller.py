"""A careful client: every submission has an idempotency key and is sent until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

#: Seconds between two tries.
_PAUSE = 0.3
_CANCELED_SHARE = 0.05


@dataclass(frozen=True)
class Submission:
    """``at``: seconds after the begin. ``cancel_after``: seconds after it was accepted."""

    key: str
    at: float
    body: dict[str, Any]
    cancel_after: float | None = None


@dataclass
class Caller:
    """Attributes:
    accepted: by idempotency key, every job id that was answered for it.
    tries: requests that had to be sent again.
    """

    url: str
    accepted: dict[str, set[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    tries: int = 0

    async def submit_all(self, submissions: list[Submission]) -> None:
        limits = httpx.Limits(max_connections=16)
        begun = asyncio.get_running_loop().time()
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=15.0, limits=limits) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for submission in submissions:
                await asyncio.sleep(begun + submission.at - asyncio.get_running_loop().time())
                tasks.create_task(self._see_through(http, submission))

    async def _see_through(self, http: httpx.AsyncClient, submission: Submission) -> None:
        answer = await self._ask(
            http,
            "/v1/jobs",
            lambda status: status in (200, 202),
            json=submission.body,
            headers={"Idempotency-Key": submission.key},
        )
        if answer is None:
            return
        job_id = answer.json()["id"]
        self.accepted.setdefault(submission.key, set()).add(job_id)
        if submission.cancel_after is not None:
            await asyncio.sleep(submission.cancel_after)
            # 409: it was done by then.
            await self._ask(http, f"/v1/jobs/{job_id}/cancel", lambda status: status in (200, 409))

    async def _ask(
        self, http: httpx.AsyncClient, path: str, good: Callable[[int], bool], **request: Any
    ) -> httpx.Response | None:
        """The answer, however long the service is away; None when it refuses for good."""
        while True:
            try:
                answer = await http.post(path, **request)
            except httpx.TransportError:
                pass
            else:
                if good(answer.status_code):
                    return answer
                if answer.status_code not in (429, 503):
                    self.refused.append(f"{path}: {answer.status_code} {answer.text[:300]}")
                    return None
            self.tries += 1
            await asyncio.sleep(_PAUSE)


def plan(count: int, *, seconds: float, draw: random.Random) -> list[Submission]:
    """Submissions spread over ``seconds``. Requests recur, so that their pictures can be compared."""
    submissions = []
    for number in range(count):
        long = draw.random() < 0.1
        body = {
            "prompt": f"castle {number % 25}",
            "seed": number % 5,
            "width": 64,
            "height": 64,
            "num_inference_steps": 60 if long else draw.choice([2, 5, 10]),
            "num_images": draw.choice([1, 1, 1, 2, 4]),
            "priority": draw.choice([0, 0, 0, 5]),
        }
        cancel_after = draw.uniform(0, 2) if draw.random() < _CANCELED_SHARE else None
        at = seconds * number / count
        submissions.append(Submission(f"chaos-{number}", at, body, cancel_after))
    return submissions
