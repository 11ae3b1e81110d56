"""KEDA's external scaler over TCP, asked by a client that protoc made of the protocol itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

import sfumato.adapters.keda
from sfumato.adapters.keda import serve_scaler
from sfumato.adapters.keda.messages import describe
from sfumato.core.errors import PortTaken, Unavailable
from sfumato.core.job import JobStatus
from sfumato.core.ports import JobCounts
from sfumato.core.runtimes import Runtime
from sfumato.services.activity import RuntimeActivity
from sfumato.services.placement import Scaling
from tests.support.parts import House, open_house

FOLDER = Path(sfumato.adapters.keda.__file__).parent
PATIENCE = 20.0


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What protoc makes of the protocol: ``messages``, ``stub``, and its description of it."""
    folder = tmp_path_factory.mktemp("protocol")
    arguments = [
        *("protoc", f"-I{FOLDER}", f"--python_out={folder}", f"--grpc_python_out={folder}"),
        *(f"--descriptor_set_out={folder / 'set'}", "externalscaler.proto"),
    ]
    assert protoc.main(arguments) == 0
    sys.path.insert(0, str(folder))
    try:
        messages = importlib.import_module("externalscaler_pb2")
        stub = importlib.import_module("externalscaler_pb2_grpc").ExternalScalerStub
    finally:
        sys.path.remove(str(folder))
    described = FileDescriptorSet.FromString((folder / "set").read_bytes()).file[0]
    return SimpleNamespace(messages=messages, stub=stub, described=described)


def signals(house: House) -> RuntimeActivity:
    scaling = Scaling(
        store=house.store, runtimes=[Runtime("default")], clock=house.clock, max_age=0.0
    )
    return RuntimeActivity(
        scaling=scaling, store=house.store, watcher=house.watcher, while_active=0.01
    )


class Scaler:
    """KEDA's side of a trigger."""

    def __init__(self, house: House, theirs: SimpleNamespace, channel: grpc.aio.Channel) -> None:
        self.house, self._theirs, self.stub = house, theirs, theirs.stub(channel)

    def ref(self, runtime: str = "default", **metadata: str) -> Any:
        given = {"runtime": runtime, **metadata} if runtime else metadata
        return self._theirs.messages.ScaledObjectRef(
            name="workers", namespace="sfumato", scalerMetadata=given
        )

    def metrics_of(self, ref: Any) -> Any:
        return self._theirs.messages.GetMetricsRequest(scaledObjectRef=ref, metricName="open_jobs")


@pytest.fixture
async def scaler(theirs: SimpleNamespace) -> AsyncIterator[Scaler]:
    async with (
        open_house() as house,
        serve_scaler(signals(house), host="127.0.0.1", port=0, target=16) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Scaler(house, theirs, channel)


def test_the_messages_are_those_of_the_protocol(theirs: SimpleNamespace) -> None:
    ours = describe()
    for file in (ours, theirs.described):
        for message in (m for top in file.message_type for m in (top, *top.nested_type)):
            for field in message.field:
                field.ClearField("json_name")
    assert ours == theirs.described


async def test_numbers_are_those_of_open_jobs(scaler: Scaler) -> None:
    ref = scaler.ref(target="2.5")
    assert not (await scaler.stub.IsActive(ref)).result
    for _ in range(3):
        await scaler.house.submit()
    assert (await scaler.stub.IsActive(ref)).result
    (value,) = (await scaler.stub.GetMetrics(scaler.metrics_of(ref))).metricValues
    assert (value.metricName, value.metricValue, value.metricValueFloat) == ("open_jobs", 3, 3.0)
    (spec,) = (await scaler.stub.GetMetricSpec(ref)).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("open_jobs", 2, 2.5)
    (spec,) = (await scaler.stub.GetMetricSpec(scaler.ref())).metricSpecs
    assert spec.targetSizeFloat == 16


async def test_work_is_pushed_the_moment_it_comes(scaler: Scaler) -> None:
    async with asyncio.timeout(PATIENCE):
        stream = scaler.stub.StreamIsActive(scaler.ref())
        assert not (await stream.read()).result
        job = await scaler.house.submit()
        assert (await stream.read()).result
        claimed = await scaler.house.store.claim(job.id, worker="w", now=1.0, lease_until=9.0)
        assert claimed is not None
        await scaler.house.submit(prompt="a second castle")
        await scaler.house.store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=2.0)
        (second,) = (await scaler.house.store.list(status=JobStatus.QUEUED)).jobs
        await scaler.house.tracking.cancel(second.id)
        assert not (await stream.read()).result
        await scaler.house.submit(prompt="a third")
        assert (await stream.read()).result
        stream.cancel()


async def test_an_outage_of_the_store_is_waited_out(
    scaler: Scaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, failed = scaler.house.store.counts, asyncio.Event()

    async def away(runtime: str) -> JobCounts:
        if not failed.is_set():
            failed.set()
            raise Unavailable("The store is away.")
        return await counts(runtime)

    await scaler.house.submit()
    async with asyncio.timeout(PATIENCE):
        monkeypatch.setattr("sfumato.services.activity._AFTER_OUTAGE", 0.01)
        monkeypatch.setattr(scaler.house.store, "counts", away)
        stream = scaler.stub.StreamIsActive(scaler.ref())
        assert (await stream.read()).result
        stream.cancel()
        failed.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await scaler.stub.IsActive(scaler.ref())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("runtime", "metadata", "code"),
    [
        ("", {}, grpc.StatusCode.INVALID_ARGUMENT),
        ("elsewhere", {}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_trigger_that_names_no_runtime_is_told_so(
    scaler: Scaler, runtime: str, metadata: dict[str, str], code: grpc.StatusCode
) -> None:
    ref = scaler.ref(runtime, **metadata)
    stream = scaler.stub.StreamIsActive(ref)
    for call in (
        scaler.stub.IsActive(ref),
        scaler.stub.GetMetrics(scaler.metrics_of(ref)),
        stream.read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is code


@pytest.mark.parametrize("target", ["0", "-1", "nan", "inf", "many"])
async def test_a_target_that_is_none_is_refused(scaler: Scaler, target: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scaler.stub.GetMetricSpec(scaler.ref(target=target))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_port_that_is_taken_is_told() -> None:
    async with open_house() as house, contextlib.AsyncExitStack() as stack:
        serving = serve_scaler(signals(house), host="127.0.0.1", port=0, target=1)
        port = await stack.enter_async_context(serving)
        with pytest.raises(PortTaken) as caught:
            await stack.enter_async_context(
                serve_scaler(signals(house), host="127.0.0.1", port=port, target=1)
            )
        assert caught.value.field == "scaler_port"
