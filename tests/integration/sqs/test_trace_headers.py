"""X-Ray's header on the messages of the AWS samples: gone on with, or done without."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sfumato.adapters.memory import MemoryImageStore
from sfumato.adapters.sqs import SqsTaskSink, SqsTaskSource
from sfumato.adapters.telemetry.traces import OtelTraces
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.current import trace_id_of
from sfumato.services.intake import Intake
from tests.support.aws import REGION, Aws
from tests.support.parts import open_house

TRACE, PARENT = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
GOOD = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1"


def task(name: str) -> dict[str, Any]:
    header = {"task": "text-to-image", "sd_model_checkpoint": "pattern", "id_task": name}
    return {"prompt": "a castle", "alwayson_scripts": header}


async def test_a_trace_header_is_gone_on_with_and_none_breaks_a_job(
    aws: Aws, aws_endpoint: str
) -> None:
    url = await aws.make_queue(queue := f"t{secrets.token_hex(4)}")

    async def send(name: str, header: str | None = None, **attributes: str) -> None:
        system = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
        await aws.sqs.send_message(
            QueueUrl=url,
            MessageBody=json.dumps(task(name)),
            MessageSystemAttributes=system if header else {},
            MessageAttributes={
                key: {"DataType": "String", "StringValue": value}
                for key, value in attributes.items()
            },
        )

    exporter = InMemorySpanExporter()
    traces = OtelTraces.for_xray(service="tested", version="1", exporter=exporter)
    async with open_house() as house:
        sink = SqsTaskSink(MemoryImageStore(), "memory://")
        source = await SqsTaskSource.open(
            f"sqs://{REGION}/{queue}", sink, SystemClock(), endpoint=aws_endpoint
        )
        intake = Intake(
            source=source,
            sink=sink,
            submission=house.submission,
            tracking=house.tracking,
            traces=traces,
        )
        await send("good", GOOD)
        await send("none")
        await send("malformed", "Root=1-nonsense;;Parent")
        await send("w3c", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
        running = asyncio.create_task(intake.run())
        async with house.working():
            while len((await house.store.list()).jobs) < 4:
                await asyncio.sleep(0.05)
            intake.drain()
            await running
        jobs = (await house.store.list()).jobs
        await source.close()
    found = {job.request.metadata["id_task"]: trace_id_of(job.traceparent) for job in jobs}
    assert {job.status.value for job in jobs} == {"succeeded"}
    assert (found["good"], found["w3c"]) == (TRACE, "a" * 32)
    begun = {found["none"], found["malformed"]}
    assert len(begun - {None, TRACE}) == 2
    traces.close()
    spans = {f"{span.context.trace_id:032x}": span for span in exporter.get_finished_spans()}
    assert set(spans) == set(found.values())
    parents = {trace: span.parent and span.parent.span_id for trace, span in spans.items()}
    assert (parents[TRACE], parents[found["none"] or ""]) == (int(PARENT, 16), None)
