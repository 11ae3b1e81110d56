"""Tasks of other systems from an SQS queue, and their results to a bucket and an SNS topic."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sfumato.adapters.sqs.address import SqsAddress
from sfumato.adapters.sqs.channel import Channel, Message
from sfumato.adapters.sqs.client import AwsClients, Denied
from sfumato.adapters.sqs.envelopes import open_envelope
from sfumato.adapters.sqs.receiving import Receipt, Receiver
from sfumato.adapters.sqs.topology import Subscription, Topology
from sfumato.core.errors import InvalidRequest, StartupRefused, Unavailable
from sfumato.core.inputs import decode_input, read_input
from sfumato.core.job import Job, JobError
from sfumato.core.ports import (
    MAX_DELIVERIES,
    Clock,
    ImageStore,
    StoredObject,
    Task,
)
from sfumato.core.request import GenerationRequest
from sfumato.core.tasks import Answer, NotATask, ParsedTask, parse_task

log = logging.getLogger(__name__)

_SETTING = "tasks_url"
_TOPIC_SETTING = "tasks_topic_arn"
#: Longest message of SNS, in bytes.
_LONGEST_MESSAGE = 262_144
#: A refused task whose answer could not be stored comes again after so many seconds.
_SET_BACK_SECONDS = 5.0
_MORE_CONNECTIONS = 8


class SqsTaskDelivery:
    """The ``TaskDelivery`` port."""

    def __init__(self, task: Task, receipt: Receipt) -> None:
        self._receipt = receipt
        self.task = task

    async def ack(self) -> None:
        await self._receipt.delete()

    async def extend(self, seconds: float) -> bool:
        return await self._receipt.extend(seconds)

    async def release(self, *, delay: float = 0.0) -> None:
        await self._receipt.release(delay)


class SqsTaskSink:
    """The ``TaskSink`` port: objects first, then the notification.

    Args:
        images: where results go.
        base_url: its URL, to which keys are added in answers.
        clients: of the output topic's region; None: nobody is told.
    """

    def __init__(
        self,
        images: ImageStore,
        base_url: str,
        clients: AwsClients | None = None,
        topic_arn: str | None = None,
    ) -> None:
        self._images = images
        self._base_url = base_url.rstrip("/")
        self._clients = clients
        self._topic_arn = topic_arn

    @classmethod
    async def open(
        cls,
        images: ImageStore,
        *,
        base_url: str,
        topic_arn: str | None,
        endpoint: str | None = None,
        max_tasks: int = 16,
    ) -> SqsTaskSink:
        """Raises StartupRefused: the topic is none, or can't be reached."""
        if topic_arn is None:
            return cls(images, base_url)
        parts = topic_arn.split(":")
        if len(parts) != 6 or parts[:1] + parts[2:3] != ["arn", "sns"]:
            raise StartupRefused(
                "SFUMATO_TASKS_TOPIC_ARN names no SNS topic.",
                field=_TOPIC_SETTING,
                accepted="arn:aws:sns:region:account:name",
            )
        clients = AwsClients(parts[3], endpoint=endpoint, connections=max_tasks)
        await clients.open()
        try:
            await _check_topic(clients, topic_arn)
        except BaseException:
            await clients.close()
            raise
        return cls(images, base_url, clients, topic_arn)

    async def started(self, task: Task) -> None:
        told = _answer_to(task).running()
        if self._clients is None or told is None:
            return
        message = json.dumps(told)
        if len(message) > _LONGEST_MESSAGE:  # of ASCII alone
            message = json.dumps({**told, "context": {}})
        await self._clients.sns("Publish", TopicArn=self._topic_arn, Message=message)

    async def succeeded(self, task: Task, job: Job, images: Sequence[StoredObject]) -> None:
        answer = _answer_to(task)
        urls = []
        for record, image in zip(job.images, images, strict=True):
            extension = job.request.output_format.extension
            key = answer.image_key(record.index, extension)
            await self._images.put(key, image.data, media_type=image.media_type)
            urls.append(self._url(key))
        document = answer.succeeded(urls, [record.seed for record in job.images])
        await self._tell(answer, document, urls, result=True)

    async def failed(self, task: Task, error: JobError) -> None:
        await self.refuse(_answer_to(task), error)

    async def refuse(self, answer: Answer, error: JobError) -> None:
        """Answer what never became a job."""
        await self._tell(answer, answer.failed(error), [], result=False)

    async def close(self) -> None:
        if self._clients is not None:
            await self._clients.close()

    async def _tell(
        self, answer: Answer, document: Mapping[str, Any], urls: Sequence[str], *, result: bool
    ) -> None:
        key = answer.document_key
        await self._images.put(key, json.dumps(document).encode(), media_type="application/json")
        if self._clients is None:
            return
        told = answer.notification(document, urls, self._url(key), result=result)
        message = json.dumps(told)
        if len(message) > _LONGEST_MESSAGE:  # of ASCII alone
            message = json.dumps(answer.without_echo(told))
        await self._clients.sns("Publish", TopicArn=self._topic_arn, Message=message)

    def _url(self, key: str) -> str:
        return f"{self._base_url}/{key}"


class SqsTaskSource:
    """The ``TaskSource`` port on one queue. Make it with :meth:`open`.

    Args:
        sink: where a task is answered that can't be drawn.
    """

    def __init__(
        self, clients: AwsClients, channel: Channel, sink: SqsTaskSink, clock: Clock
    ) -> None:
        self._clients = clients
        self._channel = channel
        self._sink = sink
        self._clock = clock
        self._receiver = Receiver(clock)

    @classmethod
    async def open(
        cls,
        url: str,
        sink: SqsTaskSink,
        clock: Clock,
        *,
        endpoint: str | None = None,
        max_tasks: int = 16,
    ) -> SqsTaskSource:
        """Connect, and make the queue where it is missing.

        Args:
            url: ``sqs://region/queue``; ``?topic=`` subscribes it to an SNS topic, of whose
                messages it then gets those with the attribute ``runtime`` of ``&runtime=``, or
                ``sd_model_checkpoint`` of ``&model=``.

        Raises:
            StartupRefused: naming what is wrong or missing.
        """
        address = SqsAddress.parse(url, setting=_SETTING, options=("topic", "runtime", "model"))
        clients = AwsClients(
            address.region, endpoint=endpoint, connections=max_tasks + _MORE_CONNECTIONS
        )
        topology = Topology(clients, setting=_SETTING, max_deliveries=MAX_DELIVERIES)
        ensure = partial(topology.ensure, address.name, _subscription(address.options))
        channel = Channel(clients, ensure)
        await clients.open()
        try:
            await channel.open()
        except BaseException as error:
            await clients.close()
            if isinstance(error, Unavailable):
                raise StartupRefused(error.message, field=_SETTING) from None
            raise
        return cls(clients, channel, sink, clock)

    async def receive(self, *, visibility: float, timeout: float) -> SqsTaskDelivery | None:
        deadline, left = self._clock.monotonic() + timeout, timeout
        while True:
            receipt = await self._receiver.receive(
                [self._channel], visibility=visibility, timeout=left
            )
            if receipt is None:
                return None
            task = await self._task_of(receipt)
            if task is not None:
                return SqsTaskDelivery(task, receipt)
            left = max(0.0, deadline - self._clock.monotonic())

    async def close(self) -> None:
        """Takes as long as a poll under way may, at most 2 seconds."""
        await self._receiver.close()
        await self._clients.close()

    async def _task_of(self, receipt: Receipt) -> Task | None:
        """The task that a message is; None when it was set aside or answered with its refusal."""
        message = receipt.message
        opened = open_envelope(message.body, message.attributes)
        try:
            parsed = parse_task(opened.text)
        except NotATask as reason:
            log.warning("the SQS message %s is no task and was set aside: %s", message.id, reason)
            await receipt.set_aside()
            return None
        origin = opened.id or receipt.origin
        sent_at = receipt.origin_sent_at if opened.sent_at is None else opened.sent_at
        answer = Answer(parsed, origin, sent_at)
        try:
            request, files = _with_pictures(parsed)
        except InvalidRequest as error:
            # Its words may quote the prompt; the answer has them.
            log.info("task %s is refused: %s in %s", parsed.id, error.code, error.field)
            await self._refuse(receipt, answer, error)
            return None
        headers = _trace_headers(message, opened.attributes)
        return Task(origin, request, inputs=files, reply={"answer": answer}, headers=headers)

    async def _refuse(self, receipt: Receipt, answer: Answer, error: InvalidRequest) -> None:
        try:
            await self._sink.refuse(answer, JobError.of(error))
        except Unavailable:
            await asyncio.shield(receipt.release(_SET_BACK_SECONDS))
            raise
        await receipt.delete()


def _trace_headers(message: Message, attributes: Mapping[str, str]) -> dict[str, str]:
    """X-Ray's header, where SNS or SQS was given one, and the W3C's, which whoever sent it added."""
    told = {
        "x-amzn-trace-id": message.trace_header,
        "traceparent": attributes.get("traceparent"),
    }
    return {name: value for name, value in told.items() if value}


def _with_pictures(parsed: ParsedTask) -> tuple[GenerationRequest, dict[str, bytes]]:
    """The request with its pictures, which stand in the message: nothing it names is fetched.

    Raises ``InvalidRequest``.
    """
    if isinstance(parsed.asked, InvalidRequest):
        raise parsed.asked
    if parsed.edit is None:
        return parsed.asked, {}
    images, files = {}, {}
    for field, text in parsed.edit.pictures.items():
        data = decode_input(text, field=field)
        images[field] = read_input(data, field=field)
        files[images[field].sha256] = data
    return parsed.edit.applied(parsed.asked, images), files


async def _check_topic(clients: AwsClients, topic_arn: str) -> None:
    try:
        await clients.sns("GetTopicAttributes", TopicArn=topic_arn)
    except Denied:
        return  # to publish needs less than to look
    except Unavailable as error:
        raise StartupRefused(
            f"The topic of SFUMATO_TASKS_TOPIC_ARN can't be used. {error.message}",
            field=_TOPIC_SETTING,
        ) from None


def _subscription(options: Mapping[str, str]) -> Subscription | None:
    topic = options.get("topic")
    attributes = {"runtime": options.get("runtime"), "sd_model_checkpoint": options.get("model")}
    wanted = {name: (value,) for name, value in attributes.items() if value}
    if (topic is None) != (not wanted):
        raise StartupRefused(
            "SFUMATO_TASKS_URL needs topic= together with runtime= or model=, or none of them.",
            field=_SETTING,
            accepted="sqs://region/queue?topic=requests&runtime=sd15",
        )
    return None if topic is None else Subscription(topic, wanted)


def _answer_to(task: Task) -> Answer:
    answer: Answer = task.reply["answer"]
    return answer
