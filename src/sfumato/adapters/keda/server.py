"""The gRPC service ``externalscaler.ExternalScaler`` over the scaling signals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc

from sfumato.adapters.keda.messages import MESSAGES, METHODS, SERVICE
from sfumato.core.errors import NotFound, PortTaken, Unavailable
from sfumato.core.ports import ScalingSignals

#: The one metric: jobs that wait or run.
METRIC = "open_jobs"
#: Seconds that streams get to end in.
_GRACE = 1.0

_Context = Any


@contextlib.asynccontextmanager
async def serve_scaler(
    signals: ScalingSignals, *, host: str, port: int, target: float
) -> AsyncIterator[int]:
    """Serve it while the block runs; answers the port.

    It tells numbers of jobs and nothing else, and asks for no key: it is for the cluster alone.

    Args:
        port: 0 takes a free one.
        target: open jobs a worker, for triggers that name no ``target``.

    Raises:
        PortTaken: with what to do.
    """
    # Without this a second process would share the port, and each would get half of the calls.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    scaler = _Scaler(signals, target)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE, {name: _handler(scaler, name) for name in METHODS}
            ),
        )
    )
    try:
        bound = server.add_insecure_port(f"{f'[{host}]' if ':' in host else host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise PortTaken(
            f"Can't listen at {host}:{port} for KEDA. Give another port with SFUMATO_SCALER_PORT.",
            field="scaler_port",
        )
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(_GRACE)


def _handler(scaler: _Scaler, name: str) -> Any:
    takes, answers, streams = METHODS[name]
    shape = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    return shape(
        getattr(scaler, name),
        request_deserializer=MESSAGES[takes].FromString,
        response_serializer=MESSAGES[answers].SerializeToString,
    )


class _Scaler:
    """A trigger's metadata are ``runtime``, and ``target``: open jobs a worker."""

    def __init__(self, signals: ScalingSignals, target: float) -> None:
        self._signals = signals
        self._target = target

    async def IsActive(self, ref: Any, context: _Context) -> Any:  # noqa: N802 - the protocol's
        return _active(await self._open(ref, context) > 0)

    async def StreamIsActive(  # noqa: N802 - as above
        self, ref: Any, context: _Context
    ) -> AsyncIterator[Any]:
        """KEDA starts a worker when it is told that a runtime is active. That it no longer is, KEDA
        finds out by asking."""
        runtime = await _runtime(ref, context)
        try:
            async with contextlib.aclosing(self._signals.activity(runtime)) as changes:
                async for active in changes:
                    yield _active(active)
        except NotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, error.message)

    async def GetMetricSpec(self, ref: Any, context: _Context) -> Any:  # noqa: N802 - as above
        target = await self._target_of(ref, context)
        # The whole number is for a KEDA of before there were others; it must not be 0.
        spec = MESSAGES["MetricSpec"](
            metricName=METRIC, targetSize=max(1, round(target)), targetSizeFloat=target
        )
        return MESSAGES["GetMetricSpecResponse"](metricSpecs=[spec])

    async def GetMetrics(self, request: Any, context: _Context) -> Any:  # noqa: N802 - as above
        count = await self._open(request.scaledObjectRef, context)
        value = MESSAGES["MetricValue"](
            metricName=METRIC, metricValue=count, metricValueFloat=float(count)
        )
        return MESSAGES["GetMetricsResponse"](metricValues=[value])

    async def _open(self, ref: Any, context: _Context) -> int:
        runtime = await _runtime(ref, context)
        try:
            return await self._signals.open(runtime)
        except NotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, error.message)
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        raise AssertionError("abort raises")

    async def _target_of(self, ref: Any, context: _Context) -> float:
        given = ref.scalerMetadata.get("target", "") or str(self._target)
        try:
            target = float(given)
        except ValueError:
            target = math.nan
        if not 0 < target < math.inf:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The trigger's target is {given[:64]!r}; it takes open jobs a worker, above 0.",
            )
        return target


async def _runtime(ref: Any, context: _Context) -> str:
    runtime: str = ref.scalerMetadata.get("runtime", "")
    if not runtime:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            "The trigger's metadata lack the runtime: it takes the name of one.",
        )
    return runtime


def _active(active: bool) -> Any:  # noqa: FBT001 - a message of one field
    return MESSAGES["IsActiveResponse"](result=active)
