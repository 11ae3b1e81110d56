"""Queues, their dead-letter queues and their subscriptions: made where they are missing.

What exists already is used as it is, for an operator may have made it otherwise on purpose.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.adapters.sqs.client import AwsClients, Denied, Missing, Rejected
from sfumato.core.errors import StartupRefused

log = logging.getLogger(__name__)

#: How long messages are kept, and dead ones: as long as SQS keeps any, and longer than the others,
#: since a dead message's age counts from when it was sent.
_KEPT_SECONDS = 7 * 86_400
_DEAD_KEPT_SECONDS = 14 * 86_400


@dataclass(frozen=True, slots=True)
class QueueUrls:
    """A queue that exists, and the one that its dead messages go to."""

    url: str
    arn: str
    dead_url: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic, by name or ARN, and which of its messages a queue wants.

    A message is wanted if any of the attributes has one of its values.
    """

    topic: str
    wanted: Mapping[str, tuple[str, ...]]

    def arn(self, queue_arn: str) -> str:
        """A topic known by its name is in the queue's own account and region."""
        if self.topic.startswith("arn:"):
            return self.topic
        _, partition, _, region, account, _ = queue_arn.split(":", 5)
        return f"arn:{partition}:sns:{region}:{account}:{self.topic}"

    @property
    def filter_policy(self) -> str:
        rules = [{attribute: list(values)} for attribute, values in self.wanted.items()]
        return json.dumps(rules[0] if len(rules) == 1 else {"$or": rules})


class Topology:
    """Makes what is missing.

    Args:
        setting: the setting that an error names.
        max_deliveries: how often a message is received before it is set aside.
    """

    def __init__(self, clients: AwsClients, *, setting: str, max_deliveries: int) -> None:
        self._clients = clients
        self._setting = setting
        self._max_deliveries = max_deliveries

    async def ensure(self, name: str, subscription: Subscription | None) -> QueueUrls:
        """The queue ``name`` with its dead-letter queue and its subscription.

        Raises:
            StartupRefused: something is missing and these credentials may not make it.
            Unavailable: AWS does not answer.
        """
        try:
            found = await self._clients.sqs("GetQueueUrl", QueueName=name)
        except Missing:
            urls = await self._create(name, subscription)
        except Denied as error:
            raise self._refusal(f"The SQS queue {name} can't be looked up", error) from None
        else:
            urls = await self._examine(name, found["QueueUrl"])
        if subscription is not None:
            await self._subscribe(subscription, urls.arn)
        return urls

    async def _create(self, name: str, subscription: Subscription | None) -> QueueUrls:
        dead_url, dead_arn = await self._create_dead(name)
        arn = f"{dead_arn.rpartition(':')[0]}:{name}"
        attributes = {
            "RedrivePolicy": self._redrive_policy(dead_arn),
            "MessageRetentionPeriod": str(_KEPT_SECONDS),
        }
        if subscription is not None:
            attributes["Policy"] = _may_send(subscription.arn(arn), arn)
        url = await self._create_queue(name, attributes)
        log.info("made the SQS queue %s", name)
        return QueueUrls(url, arn, dead_url)

    async def _create_dead(self, name: str) -> tuple[str, str]:
        attributes = {"MessageRetentionPeriod": str(_DEAD_KEPT_SECONDS)}
        url = await self._create_queue(dead_name(name), attributes)
        return url, (await self._attributes(dead_name(name), url, "QueueArn"))["QueueArn"]

    async def _create_queue(self, name: str, attributes: Mapping[str, str]) -> str:
        try:
            made = await self._clients.sqs("CreateQueue", QueueName=name, Attributes=attributes)
        except Denied as error:
            problem = f"The SQS queue {name} does not exist in {self._clients.region}"
            raise self._refusal(problem, error) from None
        url: str = made["QueueUrl"]
        return url

    async def _examine(self, name: str, url: str) -> QueueUrls:
        found = await self._attributes(name, url, "QueueArn", "RedrivePolicy")
        policy = found.get("RedrivePolicy")
        if policy:
            dead = json.loads(policy)["deadLetterTargetArn"].rpartition(":")[2]
            try:
                dead_url = (await self._clients.sqs("GetQueueUrl", QueueName=dead))["QueueUrl"]
            except (Missing, Denied):
                raise StartupRefused(
                    f"The SQS queue {name} sends its dead messages to {dead}, which can't be "
                    "looked up.",
                    field=self._setting,
                    accepted="a dead-letter queue in the same account and region",
                ) from None
            return QueueUrls(url, found["QueueArn"], dead_url)
        dead_url, dead_arn = await self._create_dead(name)
        try:
            await self._clients.sqs(
                "SetQueueAttributes",
                QueueUrl=url,
                Attributes={"RedrivePolicy": self._redrive_policy(dead_arn)},
            )
        except Denied as error:
            problem = (
                f"The SQS queue {name} has no redrive policy, so that a message that nobody can "
                "handle would come for ever"
            )
            raise self._refusal(problem, error) from None
        return QueueUrls(url, found["QueueArn"], dead_url)

    async def _attributes(self, name: str, url: str, *names: str) -> Mapping[str, Any]:
        try:
            answer = await self._clients.sqs(
                "GetQueueAttributes", QueueUrl=url, AttributeNames=list(names)
            )
        except Denied as error:
            raise self._refusal(f"The SQS queue {name} can't be examined", error) from None
        attributes: Mapping[str, Any] = answer.get("Attributes", {})
        return attributes

    async def _subscribe(self, subscription: Subscription, queue_arn: str) -> None:
        """Subscribe the queue; a subscription that stands already is left alone."""
        topic = subscription.topic.rpartition(":")[2]
        parameters = {
            "TopicArn": subscription.arn(queue_arn),
            "Protocol": "sqs",
            "Endpoint": queue_arn,
            "Attributes": {
                "RawMessageDelivery": "true",
                "FilterPolicy": subscription.filter_policy,
                "FilterPolicyScope": "MessageAttributes",
            },
        }
        try:
            try:
                await self._clients.sns("Subscribe", **parameters)
            except Missing:
                await self._clients.sns("CreateTopic", Name=topic)
                await self._clients.sns("Subscribe", **parameters)
        except Rejected:
            log.info("a queue is subscribed to %s with a filter of its own; it is kept", topic)
        except Denied as error:
            name = queue_arn.rpartition(":")[2]
            problem = f"The SQS queue {name} can't be subscribed to the SNS topic {topic}"
            raise self._refusal(problem, error) from None

    def _redrive_policy(self, dead_arn: str) -> str:
        return json.dumps(
            {"deadLetterTargetArn": dead_arn, "maxReceiveCount": self._max_deliveries}
        )

    def _refusal(self, problem: str, error: Denied) -> StartupRefused:
        return StartupRefused(
            f"{problem}. {error.message} Allow it, or have somebody make what is missing; "
            "docs/howto/sns-sqs.md shows how.",
            field=self._setting,
        )


def dead_name(name: str) -> str:
    """The dead-letter queue of a queue that we make."""
    return f"{name}-dead"


def _may_send(topic_arn: str, queue_arn: str) -> str:
    """The queue's policy: this topic may send to it."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue_arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
                }
            ],
        }
    )
