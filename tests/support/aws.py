"""Fixtures of SNS and SQS, and the vendor's own clients to look at what an adapter did."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from aiobotocore.session import get_session

REGION = "eu-west-1"


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials where AWS's own tools find them, and nothing else that would steer those."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.fixture
def sqs_url(aws_credentials: None) -> str:
    """A prefix of the test's own, as the server outlives it."""
    return f"sqs://{REGION}/t{secrets.token_hex(4)}"


@dataclass
class Aws:
    """What somebody else does with SNS and SQS."""

    sqs: Any
    sns: Any

    async def queue_url(self, name: str) -> str:
        return str((await self.sqs.get_queue_url(QueueName=name))["QueueUrl"])

    async def make_queue(self, name: str, **attributes: str) -> str:
        return str((await self.sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"])

    async def arn(self, queue_url: str) -> str:
        return (await self.attributes(queue_url))["QueueArn"]

    async def attributes(self, queue_url: str) -> dict[str, str]:
        found = await self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
        return dict(found["Attributes"])

    async def topic_arn(self, name: str) -> str:
        return str((await self.sns.create_topic(Name=name))["TopicArn"])

    async def publish(self, topic: str, body: Any, attributes: Mapping[str, str]) -> None:
        await self.sns.publish(
            TopicArn=await self.topic_arn(topic),
            Message=json.dumps(body),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )

    async def send(self, queue: str, body: str) -> None:
        await self.sqs.send_message(QueueUrl=await self.queue_url(queue), MessageBody=body)

    async def count(self, queue: str) -> int:
        found = await self.attributes(await self.queue_url(queue))
        return int(found["ApproximateNumberOfMessages"])

    async def bodies(self, queue: str) -> list[str]:
        """What waits in the queue; it is taken out."""
        url, bodies = await self.queue_url(queue), []
        while messages := (
            await self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        ).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                await self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies


async def open_aws(stack: AsyncExitStack, endpoint: str) -> Aws:
    session = get_session()
    clients = [
        await stack.enter_async_context(
            session.create_client(service, region_name=REGION, endpoint_url=endpoint)
        )
        for service in ("sqs", "sns")
    ]
    return Aws(*clients)


@pytest.fixture
async def aws(aws_endpoint: str, aws_credentials: None) -> AsyncIterator[Aws]:
    async with AsyncExitStack() as stack:
        yield await open_aws(stack, aws_endpoint)
