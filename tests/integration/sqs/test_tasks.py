"""A seed system's message in, its pictures, its document and its notification out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.adapters.sqs import SqsTaskSink, SqsTaskSource
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.errors import StartupRefused, Unavailable
from sfumato.core.ports import ImageEngine, ImageStore, Slot
from sfumato.engine.fake import FakeEngine
from sfumato.services.intake import Intake
from tests.contract.job_queue import PATIENCE, ManualClock
from tests.support.aws import REGION, Aws
from tests.support.parts import House, open_house
from tests.support.png import png
from tests.support.servers import S3

VISIBILITY = 20.0
V0 = {
    "sdname": "sd15Addon",
    "alwayson_scripts": {
        "task": "text-to-image",
        "sd_model_checkpoint": "pattern.safetensors",
        "id_task": "307",
    },
    "prompt": "a castle",
    "seed": 7,
    "batch_size": 2,
}
V1ALPHA2 = {
    "metadata": {
        "id": "t1",
        "runtime": "sd15",
        "tasktype": "text-to-image",
        "prefix": "out",
        "context": {"user": 1},
    },
    "content": {"prompt": "a castle", "seed": 7},
}


@dataclass
class Desk:
    """Where tasks come in and results go out, beside a Sfumato that draws patterns."""

    house: House
    aws: Aws
    images: ImageStore
    bucket: str
    source: SqsTaskSource
    sink: SqsTaskSink
    #: Prefix of the queues ``-in`` and ``-out`` and of the topic ``-requests``.
    name: str

    async def keys(self, s3_server: S3) -> list[str]:
        async with s3_server.client() as client:
            found = await client.list_objects_v2(Bucket=self.bucket)
        return sorted(entry["Key"] for entry in found.get("Contents", ()))

    async def document(self, s3_server: S3, key: str) -> Any:
        return json.loads((await self.images.get(key)).data)

    @contextlib.asynccontextmanager
    async def taking(
        self, *, tell_started: bool = False, engine: ImageEngine | None = None
    ) -> AsyncIterator[None]:
        """An intake and a worker beside the block."""
        intake = Intake(
            source=self.source,
            sink=self.sink,
            submission=self.house.submission,
            tracking=self.house.tracking,
            visibility=VISIBILITY,
            tell_started=tell_started,
        )
        running = asyncio.create_task(intake.run())
        async with self.house.working(engine):
            yield
            intake.drain()
            await running

    async def notification(self) -> Any:
        """The next message of the output topic."""
        url = await self.aws.queue_url(f"{self.name}-out")
        for _ in range(int(PATIENCE)):
            answer = await self.aws.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
            for message in answer.get("Messages", ()):
                await self.aws.sqs.delete_message(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]
                )
                return json.loads(message["Body"])
        raise AssertionError("nobody was told")


@pytest.fixture
async def desk(aws: Aws, aws_endpoint: str, s3_server: S3, s3_bucket: str) -> AsyncIterator[Desk]:
    name = f"t{secrets.token_hex(4)}"
    output = await aws.topic_arn(f"{name}-done")
    arn = await aws.arn(await aws.make_queue(f"{name}-out"))
    await aws.sns.subscribe(
        TopicArn=output, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )
    images = ObjectImageStore(
        f"s3://{s3_bucket}",
        options={
            "endpoint": s3_server.endpoint,
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
            "region": s3_server.region,
            "allow_http": "true",
        },
    )
    sink = await SqsTaskSink.open(
        images, base_url=f"s3://{s3_bucket}", topic_arn=output, endpoint=aws_endpoint
    )
    source = await SqsTaskSource.open(
        f"sqs://{REGION}/{name}-in?topic={name}-requests&runtime=sd15&model=pattern.safetensors",
        sink,
        SystemClock(),
        endpoint=aws_endpoint,
    )
    async with open_house() as house:
        yield Desk(house, aws, images, s3_bucket, source, sink, name)
    await source.close()
    await sink.close()
    await images.close()


async def test_a_v0_task_in_an_envelope(desk: Desk, s3_server: S3) -> None:
    """The seed's own way: a subscription without a filter on attributes, not raw."""
    topic = await desk.aws.topic_arn(f"{desk.name}-seed")
    arn = await desk.aws.arn(await desk.aws.queue_url(f"{desk.name}-in"))
    await desk.aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    async with desk.taking():
        await desk.aws.sns.publish(
            TopicArn=topic,
            Message=json.dumps({"default": json.dumps(V0)}),
            MessageStructure="json",
        )
        told = await desk.notification()
    parameters = told["parameters"]
    assert (parameters["id_task"], parameters["status"]) == ("307", 1)
    assert parameters["image_seed"] == "7,8"
    *images, document = await desk.keys(s3_server)
    assert parameters["image_url"].split(",") == [
        f"s3://{desk.bucket}/{key}" for key in sorted(images, key=parameters["image_url"].index)
    ]
    assert len(images) == 2
    assert await desk.document(s3_server, document) == told
    stored = await desk.images.get(images[0])
    assert stored.media_type == "image/png"
    assert stored.data.startswith(b"\x89PNG")
    assert await desk.aws.bodies(f"{desk.name}-in") == []


async def test_the_subscription_picks_by_runtime_or_model(desk: Desk) -> None:
    async def heard(**attributes: str) -> bool:
        await desk.aws.publish(f"{desk.name}-requests", V1ALPHA2, attributes)
        return await desk.aws.bodies(f"{desk.name}-in") == [json.dumps(V1ALPHA2)]

    assert await heard(runtime="sd15")
    assert await heard(sd_model_checkpoint="pattern.safetensors")
    assert not await heard(runtime="sdxl")
    assert not await heard(sd_model_checkpoint="other.safetensors", runtime="sdxl")


async def test_a_v1alpha2_task_raw(desk: Desk, s3_server: S3) -> None:
    async with desk.taking():
        await desk.aws.publish(f"{desk.name}-requests", V1ALPHA2, {"runtime": "sd15"})
        told = await desk.notification()
    document, image = sorted(await desk.keys(s3_server), key=lambda key: key.endswith("png"))
    assert told == {
        "runtime": "sd15",
        "id": "t1",
        "result": True,
        "status": "completed",
        "image_url": [f"s3://{desk.bucket}/{image}"],
        "output_url": f"s3://{desk.bucket}/{document}",
        "context": {"user": 1},
    }
    parameters = (await desk.document(s3_server, document))["parameters"]
    assert (parameters["image_seed"], parameters["error_msg"]) == ("7", "")


async def test_that_a_v1alpha2_task_runs_is_told_where_somebody_asks(desk: Desk) -> None:
    told = threading.Event()

    def until_told(_slots: Sequence[Slot]) -> None:
        assert told.wait(PATIENCE)

    async with desk.taking(tell_started=True, engine=FakeEngine(before_step=until_told)):
        await desk.aws.publish(f"{desk.name}-requests", V1ALPHA2, {"runtime": "sd15"})
        try:
            first = await desk.notification()
        finally:
            told.set()
        second = await desk.notification()
    assert first == {"runtime": "sd15", "id": "t1", "status": "running", "context": {"user": 1}}
    assert second["status"] == "completed"


async def test_an_image_to_image_task_brings_its_picture(desk: Desk) -> None:
    header = {**V0["alwayson_scripts"], "task": "image-to-image"}  # type: ignore[dict-item]
    picture = base64.b64encode(png(64, 64)).decode()
    task = {**V0, "alwayson_scripts": header, "init_images": [picture], "batch_size": 1}
    linked = {**task, "init_images": ["https://example.com/a.png"]}
    async with desk.taking():
        await desk.aws.send(f"{desk.name}-in", json.dumps(task))
        done = (await desk.notification())["parameters"]
        await desk.aws.send(f"{desk.name}-in", json.dumps(linked))
        refused = (await desk.notification())["parameters"]
    assert (done["status"], "init_images" in done) == (1, False)
    assert (refused["status"], "base64" in refused["error_msg"]) == (0, True)
    (job,) = (await desk.house.tracking.list()).jobs
    assert job.request.init_image is not None


async def test_a_failure_is_told_and_written_like_a_success(desk: Desk, s3_server: S3) -> None:
    wrong = {
        "kind": ({"task": "extra-single-image"}, "not drawn here"),
        "script": ({"controlnet": {"args": []}}, "controlnet"),
        "model": ({"sd_model_checkpoint": "nothing.safetensors"}, "no model 'nothing'"),
    }
    told = {}
    async with desk.taking():
        for name, (change, _) in wrong.items():
            header = {**V0["alwayson_scripts"], **change, "id_task": name}  # type: ignore[dict-item]
            await desk.aws.send(f"{desk.name}-in", json.dumps({**V0, "alwayson_scripts": header}))
        for _ in wrong:
            notification = await desk.notification()
            told[notification["parameters"]["id_task"]] = notification
    keys = await desk.keys(s3_server)
    for name, (_, words) in wrong.items():
        assert told[name]["parameters"]["status"] == 0
        assert words in told[name]["parameters"]["error_msg"]
        (document,) = (key for key in keys if key.startswith(f"{name}/"))
        assert await desk.document(s3_server, document) == told[name]
    assert await desk.aws.bodies(f"{desk.name}-in") == []


async def test_a_second_delivery_writes_the_same_objects(desk: Desk, s3_server: S3) -> None:
    """The first intake is gone after it stored its results and before it said so."""
    await desk.aws.send(f"{desk.name}-in", json.dumps(V0))
    delivery = await desk.source.receive(visibility=1, timeout=PATIENCE)
    assert delivery is not None
    async with desk.house.working():
        job = await desk.house.submission.submit(
            delivery.task.request, idempotency_key=f"task:{delivery.task.id}"
        )
        job = await desk.house.finished(job)
    images = [await desk.house.tracking.image(job.id, record.index) for record in job.images]
    await desk.sink.succeeded(delivery.task, job, images)
    before = await desk.keys(s3_server)
    first = await desk.notification()

    async with desk.taking():
        assert await desk.notification() == first
    assert await desk.keys(s3_server) == before
    assert len(before) == 3


async def test_what_is_no_task_is_set_aside_and_its_words_stay_out_of_the_log(
    desk: Desk, s3_server: S3, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.aws.send(f"{desk.name}-in", '{"prompt": "a secret"}')
    assert await desk.source.receive(visibility=VISIBILITY, timeout=1) is None
    assert await desk.aws.bodies(f"{desk.name}-in-dead") == ['{"prompt": "a secret"}']
    assert "neither metadata nor alwayson_scripts" in caplog.text
    assert "secret" not in caplog.text
    assert await desk.keys(s3_server) == []


async def test_a_copy_is_what_its_marks_say_only_where_they_make_sense(
    desk: Desk, s3_server: S3
) -> None:
    url = await desk.aws.queue_url(f"{desk.name}-in")
    marks = {"sfumato-origin": "../x", "sfumato-origin-sent": "yesterday"}
    sent = await desk.aws.sqs.send_message(
        QueueUrl=url,
        MessageBody=json.dumps(V0),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in marks.items()
        },
    )
    delivery = await desk.source.receive(visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.task.id == sent["MessageId"]


async def test_a_copy_made_at_twelve_hours_is_the_same_task(aws_endpoint: str, aws: Aws) -> None:
    class SteppingClock(ManualClock):
        def monotonic(self) -> float:
            return self.time

    clock, name = SteppingClock(), f"t{secrets.token_hex(4)}"
    sink = await SqsTaskSink.open(
        ObjectImageStore("memory://"), base_url="memory://", topic_arn=None, endpoint=aws_endpoint
    )
    source = await SqsTaskSource.open(f"sqs://{REGION}/{name}", sink, clock, endpoint=aws_endpoint)
    await aws.send(name, json.dumps(V0))
    first = await source.receive(visibility=43_140, timeout=PATIENCE)
    assert first is not None
    clock.time += 43_139
    assert await first.extend(2)
    second = await source.receive(visibility=60, timeout=PATIENCE)
    assert second is not None
    assert second.task == first.task
    await source.close()
    await sink.close()


async def test_an_output_topic_that_vanished_leaves_the_task_in_the_queue(
    aws_endpoint: str, aws: Aws
) -> None:
    name = f"t{secrets.token_hex(4)}"
    topic_arn = await aws.topic_arn(name)
    sink = await SqsTaskSink.open(
        ObjectImageStore("memory://"),
        base_url="memory://",
        topic_arn=topic_arn,
        endpoint=aws_endpoint,
    )
    await aws.sns.delete_topic(TopicArn=topic_arn)
    source = await SqsTaskSource.open(
        f"sqs://{REGION}/{name}", sink, ManualClock(), endpoint=aws_endpoint
    )
    unwanted = {**V0, "alwayson_scripts": {**V0["alwayson_scripts"], "task": "other"}}  # type: ignore[dict-item]
    await aws.send(name, json.dumps(unwanted))
    with pytest.raises(Unavailable, match="no such topic"):
        await source.receive(visibility=VISIBILITY, timeout=PATIENCE)
    await source.close()
    await sink.close()
    attributes = await aws.attributes(await aws.queue_url(name))
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqs://eu-west-1", "needs a name"),
        ("sqs://eu-west-1/q?topic=x", "topic= together with"),
        ("sqs://eu-west-1/q?runtime=x", "topic= together with"),
        ("sqs://eu-west-1/q?colour=x", "unknown option 'colour'"),
    ],
)
async def test_a_wrong_url_is_refused(url: str, words: str, aws_credentials: None) -> None:
    sink = await SqsTaskSink.open(ObjectImageStore("memory://"), base_url="x", topic_arn=None)
    with pytest.raises(StartupRefused, match=words) as refused:
        await SqsTaskSource.open(url, sink, ManualClock())
    assert refused.value.field == "tasks_url"
    await sink.close()


async def test_a_topic_that_is_none_is_refused(aws_credentials: None) -> None:
    with pytest.raises(StartupRefused, match="names no SNS topic") as refused:
        await SqsTaskSink.open(
            ObjectImageStore("memory://"), base_url="x", topic_arn="arn:aws:sqs:r:1:q"
        )
    assert refused.value.field == "tasks_topic_arn"


async def test_a_topic_that_does_not_exist_is_refused(aws_endpoint: str, aws: Aws) -> None:
    with pytest.raises(StartupRefused, match="no such topic") as refused:
        await SqsTaskSink.open(
            ObjectImageStore("memory://"),
            base_url="x",
            topic_arn=f"arn:aws:sns:{REGION}:123456789012:nothing",
            endpoint=aws_endpoint,
        )
    assert refused.value.field == "tasks_topic_arn"
