"""Each cloud's notice is read from its metadata server, over TCP, whatever befalls the asking."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from sfumato.adapters.spot import AwsSpot, AzureSpot, GcpSpot, Metadata, MetadataSpotNotices
from sfumato.bootstrap.clock import SystemClock
from sfumato.core.ports import SpotNotice
from sfumato.worker.spot import drain_at_notice
from tests.support.metadata import MetadataServer, azure_event


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


def notices(
    metadata: Metadata, server: MetadataServer, *, interval: float = 0.01
) -> MetadataSpotNotices:
    metadata.interval = interval
    return MetadataSpotNotices(metadata, clock=SystemClock(), address=server.url, again_after=0.01)


async def noticed(server: MetadataServer, metadata: Metadata, *, seconds: float) -> SpotNotice:
    """What comes of a notice that is given after some questions were answered without one."""
    asking = asyncio.create_task(notices(metadata, server).next())
    await asyncio.to_thread(server.wait_asked, 1)
    assert not asking.done()
    server.give_notice(seconds)
    return await asyncio.wait_for(asking, 60)


@pytest.mark.parametrize(
    ("metadata", "seconds", "reason"),
    [(AwsSpot(), 120, "terminate"), (GcpSpot(), 30, "preempt"), (AzureSpot(), 30, "Preempt")],
    ids=["aws", "gcp", "azure"],
)
async def test_a_notice_tells_when_and_why(
    server: MetadataServer, metadata: Metadata, seconds: float, reason: str
) -> None:
    before = time.time()
    notice = await noticed(server, metadata, seconds=seconds)
    assert notice.ends_at - before == pytest.approx(seconds, abs=30)  # a slow machine's minute
    assert notice.ends_at > before + seconds - 2  # whole seconds are told
    assert reason in notice.reason


@pytest.mark.parametrize("metadata", [AwsSpot(), GcpSpot(), AzureSpot()])
async def test_a_server_that_fails_is_asked_again_and_complained_of_once(
    server: MetadataServer, metadata: Metadata, caplog: pytest.LogCaptureFixture
) -> None:
    server.down = True
    with caplog.at_level(logging.WARNING):
        asking = asyncio.create_task(notices(metadata, server).next())
        while not caplog.messages:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        server.down = False
        server.give_notice(30)
        await asyncio.wait_for(asking, 60)
    assert len(caplog.messages) == 1
    assert server.url in caplog.messages[0]


async def test_ec2s_token_is_made_anew_when_it_has_run_out(server: MetadataServer) -> None:
    asking = asyncio.create_task(notices(AwsSpot(), server).next())
    await asyncio.to_thread(server.wait_asked, 2)
    server.forget_tokens()
    await asyncio.to_thread(server.wait_asked, server.asked + 2)
    server.give_notice(120)
    assert "terminate" in (await asyncio.wait_for(asking, 60)).reason


async def test_azures_events_of_other_machines_and_freezes_are_not_ours(
    server: MetadataServer,
) -> None:
    soon = "Mon, 19 Sep 2016 18:29:47 GMT"
    server.azure_events = [
        azure_event("Preempt", soon, "gpu_8"),
        azure_event("Freeze", soon, "gpu_7"),
    ]
    asking = asyncio.create_task(notices(AzureSpot(), server).next())
    await asyncio.to_thread(server.wait_asked, 3)
    assert not asking.done()
    server.azure_events = [azure_event("Redeploy", "", "gpu_7", "gpu_8")]
    notice = await asyncio.wait_for(asking, 60)
    assert notice.reason == "Azure's event Redeploy"
    assert notice.ends_at <= time.time()  # it has begun


@pytest.mark.parametrize(
    ("left", "grace"), [(120.0, 90.0), (30.0, 20.0), (-5.0, 0.0)], ids=["aws", "gcp", "late"]
)
async def test_time_is_left_for_releasing_what_is_not_finished(left: float, grace: float) -> None:
    class Clock:
        def now(self) -> float:
            return 1000.0

        def monotonic(self) -> float:
            return 0.0

    class Given:
        async def next(self) -> SpotNotice:
            return SpotNotice(1000.0 + left, "given")

    drained: list[float] = []
    await drain_at_notice(Given(), Clock(), drained.append)
    assert drained == [grace]
