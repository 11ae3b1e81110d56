"""The service goes away while a worker elsewhere draws: the picture comes all the same."""

from __future__ import annotations

import asyncio
import socket
import threading

from pydantic import SecretStr

from sfumato.adapters.remote import RemoteAssignments, RemoteConnection
from sfumato.core.job import JobStatus
from sfumato.engine.fake import FakeEngine
from sfumato.worker.loop import Worker
from tests.integration.api.serving import context_of, serving
from tests.support.parts import open_house


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


async def test_a_picture_drawn_while_the_service_was_away_is_delivered() -> None:
    """The engine draws every step with nobody listening, and the service then comes back."""
    drawing, go_on = threading.Event(), threading.Event()
    port = free_port()

    def before_step(slots: object) -> None:
        drawing.set()
        go_on.wait()

    async with open_house() as house:
        _, secret = await house.access.create(name="pc", runtimes=["default"])
        async with RemoteConnection(
            f"http://127.0.0.1:{port}", token=SecretStr(secret), worker="w", clock=house.clock
        ) as connection:
            worker = Worker(
                assignments=RemoteAssignments(
                    connection,
                    runtime="default",
                    lease=30.0,
                    clock=house.clock,
                    locate=lambda model: model,
                ),
                make_engine=lambda: FakeEngine(before_step=before_step),
                clock=house.clock,
                started_at=house.clock.now(),
            )
            async with serving(context_of(house), port=port):
                working = asyncio.create_task(worker.run())
                job = await house.submit()
                assert await asyncio.to_thread(drawing.wait, 30)
            go_on.set()
            # Its reports, its heartbeat and its picture find nobody now.
            assert (await house.store.get(job.id)).status is JobStatus.RUNNING
            async with serving(context_of(house), port=port):
                done = await house.finished(job)
                worker.drain()
                await working
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
