"""A worker's pod says whether it is busy: at each change, once, and whatever the API server does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from sfumato.adapters.kubernetes import KubernetesApi, OwnPod
from tests.support.kubernetes import ApiServer, pod

BUSY = {"controller.kubernetes.io/pod-deletion-cost": "100", "karpenter.sh/do-not-disrupt": "true"}
IDLE = {"controller.kubernetes.io/pod-deletion-cost": "0"}


@pytest.fixture
async def own(server: ApiServer, api: KubernetesApi) -> AsyncIterator[OwnPod]:
    server.pods = [pod("w-1")]
    own = OwnPod(api, namespace="pictures", name="w-1", settle=0.05, retry_delays=(0.01,))
    keeping = asyncio.create_task(own.keep_marked())
    yield own
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def marked(server: ApiServer, marks: dict[str, str]) -> None:
    await asyncio.to_thread(server.wait_marked, "w-1", marks)


async def called(server: ApiServer, count: int) -> None:
    """Returns once the server has seen so many calls."""

    def wait() -> bool:
        with server.changed:
            return server.changed.wait_for(lambda: len(server.calls) >= count, 60)

    assert await asyncio.to_thread(wait)


async def test_it_is_marked_at_each_change(server: ApiServer, own: OwnPod) -> None:
    assert server.marks("w-1") == {}
    own.busy(True)
    await marked(server, BUSY)
    own.busy(False)
    await marked(server, IDLE)
    own.busy(True)
    await marked(server, BUSY)
    assert server.calls == [("patch", "pods", "w-1")] * 3


async def test_jobs_that_follow_each_other_cost_one_call(server: ApiServer, own: OwnPod) -> None:
    for _ in range(20):
        own.busy(True)
        await asyncio.sleep(0.001)
        own.busy(False)
        await asyncio.sleep(0.001)
    await marked(server, IDLE)
    assert len(server.calls) == 2


async def test_a_server_that_is_away_is_asked_again_and_complained_of_once(
    server: ApiServer, own: OwnPod, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = 503
    with caplog.at_level(logging.WARNING):
        own.busy(True)
        await called(server, 4)
        server.refuses = None
        await marked(server, BUSY)
    assert len(caplog.messages) == 1
    assert "could not be marked" in caplog.messages[0]
    assert "first" not in caplog.text  # the token


async def test_what_is_no_longer_true_is_not_tried_again(server: ApiServer, own: OwnPod) -> None:
    server.refuses = 503
    own.busy(True)
    await called(server, 2)
    own.busy(False)
    server.refuses = None
    await marked(server, IDLE)


async def test_who_may_not_mark_it_tries_once_at_each_change(
    server: ApiServer, own: OwnPod, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = 403
    with caplog.at_level(logging.WARNING):
        own.busy(True)
        await called(server, 1)
        own.busy(False)
        await called(server, 2)
        await asyncio.sleep(0.1)
    assert len(server.calls) == 2
    assert len(caplog.messages) == 1
    assert "cannot patch" in caplog.messages[0]
