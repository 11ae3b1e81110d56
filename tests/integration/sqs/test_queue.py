"""The doorbell on SQS where the contract does not look: other publishers, limits, odd messages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from sfumato.adapters.sqs import SqsJobQueue
from sfumato.core.errors import Unavailable
from sfumato.core.ports import QueueDepth, Ring
from tests.contract.job_queue import PATIENCE, ManualClock
from tests.support.aws import Aws

VISIBILITY = 20.0


class SteppingClock(ManualClock):
    """Its durations, too, pass only when a test says so."""

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def prefix(sqs_url: str) -> str:
    return sqs_url.rpartition("/")[2]


@pytest.fixture
async def queue(sqs_url: str, aws_endpoint: str) -> AsyncIterator[SqsJobQueue]:
    queue = await SqsJobQueue.open(
        sqs_url, ManualClock(), runtimes=["sd15", "sdxl"], endpoint=aws_endpoint
    )
    yield queue
    await queue.close()


async def test_a_ring_through_the_topic_reaches_its_runtime_alone(
    queue: SqsJobQueue, aws: Aws, prefix: str
) -> None:
    await aws.publish(prefix, {"job_id": "j"}, {"runtime": "sdxl"})
    await aws.publish(prefix, {"job_id": "lost"}, {"runtime": "nobody"})
    delivery = await queue.receive(["sdxl"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.ring == Ring("j", "sdxl")
    assert await queue.depth("sd15") == QueueDepth(0, 0)
    assert await queue.depth("sdxl") == QueueDepth(0, 1)


async def test_a_ring_in_snss_envelope_is_understood(
    queue: SqsJobQueue, aws: Aws, prefix: str
) -> None:
    """As from a topic that another made, whose subscription is not raw."""
    other = await aws.topic_arn(f"{prefix}-other")
    queue_arn = await aws.arn(await aws.queue_url(f"{prefix}-sd15"))
    await aws.sns.subscribe(TopicArn=other, Protocol="sqs", Endpoint=queue_arn)
    await aws.publish(f"{prefix}-other", {"job_id": "j", "attempt": 2}, {})
    assert '"Type": "Notification"' in await _only_body(aws, f"{prefix}-sd15")
    await aws.publish(f"{prefix}-other", {"job_id": "j", "attempt": 2}, {})
    delivery = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.ring == Ring("j", "sd15", attempt=2)


async def test_what_is_no_ring_is_set_aside_and_its_words_stay_out_of_the_log(
    queue: SqsJobQueue, aws: Aws, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [" ", "a secret", "[]", '{"job_id": 7}', '{"job_id": "j", "attempt": "a secret"}']
    for body in bodies:
        await aws.send(f"{prefix}-sd15", body)
    await queue.ring(Ring("j", "sd15"))
    with caplog.at_level(logging.DEBUG, logger="sfumato"):
        delivery = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.ring.job_id == "j"
    await delivery.ack()
    assert await queue.depth("sd15") == QueueDepth(0, 0, dead=len(bodies))
    assert caplog.text.count("is no ring") == len(bodies)
    assert "secret" not in caplog.text

    assert await queue.redrive("sd15") == 0
    assert await queue.depth("sd15") == QueueDepth(0, 0, dead=len(bodies))
    assert sorted(await aws.bodies(f"{prefix}-sd15-dead")) == sorted(bodies)


async def test_close_to_twelve_hours_a_copy_takes_the_rings_place(
    sqs_url: str, aws_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SteppingClock()
    queue = await SqsJobQueue.open(sqs_url, clock, runtimes=["sd15"], endpoint=aws_endpoint)
    await queue.ring(Ring("j", "sd15"))
    delivery = await queue.receive(["sd15"], visibility=40_000, timeout=PATIENCE)
    assert delivery is not None
    clock.time += 39_000
    assert await delivery.extend(4_140)
    clock.time += 4_139  # a minute and a second before it is taken from us
    with caplog.at_level(logging.INFO, logger="sfumato"):
        assert await delivery.extend(2)
    assert "12 hours" in caplog.text
    assert not await delivery.extend(60)
    await delivery.ack()
    again = await queue.receive(["sd15"], visibility=60, timeout=PATIENCE)
    assert again is not None
    assert again.ring.job_id == "j"
    await queue.close()


async def test_what_two_runtimes_answer_at_once_is_not_hidden(queue: SqsJobQueue) -> None:
    """One receiver, two polls: the ring that nobody has room for is back at once."""
    await queue.ring(Ring("a", "sd15"))
    await queue.ring(Ring("b", "sdxl"))
    first = await queue.receive(["sd15", "sdxl"], visibility=43_200, timeout=PATIENCE)
    second = await queue.receive(["sd15", "sdxl"], visibility=43_200, timeout=PATIENCE)
    assert first is not None
    assert second is not None
    assert {first.ring.job_id, second.ring.job_id} == {"a", "b"}


async def test_receivers_take_no_more_than_there_is_room_for(queue: SqsJobQueue) -> None:
    receiving = [
        asyncio.create_task(queue.receive(["sd15"], visibility=43_200, timeout=PATIENCE))
        for _ in range(3)
    ]
    for number in range(8):
        await queue.ring(Ring(f"j{number}", "sd15"))
    assert None not in await asyncio.gather(*receiving)
    for _ in range(200):
        if await queue.depth("sd15") == QueueDepth(ready=5, hidden=3):
            break
        await asyncio.sleep(0.05)
    assert await queue.depth("sd15") == QueueDepth(ready=5, hidden=3)


async def test_a_cancelled_receiver_leaves_what_comes_after_it(
    queue: SqsJobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    receiving = asyncio.create_task(queue.receive(["sd15"], visibility=43_200, timeout=PATIENCE))
    await asyncio.sleep(0.2)  # its poll is under way
    receiving.cancel()
    await asyncio.wait([receiving])
    await queue.ring(Ring("j", "sd15"))
    await queue.close()
    assert not caplog.messages


@pytest.mark.parametrize("timeout", [0.0, PATIENCE], ids=["a look", "a poll"])
async def test_what_a_cancelled_receiver_took_is_back_at_once(
    queue: SqsJobQueue, timeout: float
) -> None:
    for milliseconds in (0, 1, 2, 4, 8, 16, 32):
        await queue.ring(Ring("j", "sd15"))
        receiving = asyncio.create_task(queue.receive(["sd15"], visibility=43_200, timeout=timeout))
        await asyncio.sleep(milliseconds / 1000)
        if not receiving.cancel() and (taken := receiving.result()):  # it was faster
            await taken.release()
        await asyncio.wait([receiving])
        delivery = await queue.receive(["sd15"], visibility=43_200, timeout=PATIENCE)
        assert delivery is not None
        await delivery.ack()
    assert await queue.depth("sd15") == QueueDepth(0, 0)


async def test_a_longer_delay_than_sqs_has_is_cut(queue: SqsJobQueue) -> None:
    await queue.ring(Ring("j", "sd15"), delay=10_000)
    assert await queue.depth("sd15") == QueueDepth(ready=0, hidden=1)


async def test_queues_and_subscriptions_are_made_once(
    queue: SqsJobQueue, sqs_url: str, aws_endpoint: str, aws: Aws, prefix: str
) -> None:
    again = await SqsJobQueue.open(
        sqs_url, ManualClock(), runtimes=["sd15", "sdxl"], endpoint=aws_endpoint
    )
    await again.close()
    topic = await aws.topic_arn(prefix)
    found = (await aws.sns.list_subscriptions_by_topic(TopicArn=topic))["Subscriptions"]
    assert len(found) == 2
    for subscription in found:
        attributes = (
            await aws.sns.get_subscription_attributes(
                SubscriptionArn=subscription["SubscriptionArn"]
            )
        )["Attributes"]
        assert attributes["RawMessageDelivery"] == "true"
        runtime = subscription["Endpoint"].rpartition("-")[2]
        assert json.loads(attributes["FilterPolicy"]) == {"runtime": [runtime]}
    attributes = await aws.attributes(await aws.queue_url(f"{prefix}-sd15"))
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 20
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": topic}}


async def test_an_operators_queue_is_used_as_it_is(
    sqs_url: str, prefix: str, aws_endpoint: str, aws: Aws
) -> None:
    dead = await aws.arn(await aws.make_queue(f"{prefix}-graveyard"))
    policy = {"deadLetterTargetArn": dead, "maxReceiveCount": 7}
    url = await aws.make_queue(
        f"{prefix}-sd15", VisibilityTimeout="77", RedrivePolicy=json.dumps(policy)
    )
    queue = await SqsJobQueue.open(
        f"{sqs_url}?topic=off", ManualClock(), runtimes=["sd15"], endpoint=aws_endpoint
    )
    await aws.send(f"{prefix}-sd15", "no ring")
    assert await queue.receive(["sd15"], visibility=VISIBILITY, timeout=0.1) is None
    assert await queue.depth("sd15") == QueueDepth(0, 0, dead=1)
    await queue.close()
    attributes = await aws.attributes(url)
    assert json.loads(attributes["RedrivePolicy"]) == policy
    assert attributes["VisibilityTimeout"] == "77"
    topics = (await aws.sns.list_topics())["Topics"]
    assert not [topic for topic in topics if topic["TopicArn"].endswith(f":{prefix}")]


async def test_a_queue_without_a_dead_letter_queue_gets_one(
    sqs_url: str, prefix: str, aws_endpoint: str, aws: Aws
) -> None:
    url = await aws.make_queue(f"{prefix}-sd15")
    queue = await SqsJobQueue.open(
        sqs_url, ManualClock(), runtimes=["sd15"], endpoint=aws_endpoint, max_deliveries=9
    )
    await queue.close()
    policy = json.loads((await aws.attributes(url))["RedrivePolicy"])
    assert policy["maxReceiveCount"] == 9
    assert policy["deadLetterTargetArn"].endswith(f":{prefix}-sd15-dead")


async def _only_body(aws: Aws, queue: str) -> str:
    (body,) = await aws.bodies(queue)
    return body


async def test_closed_while_somebody_waits_it_says_so(queue: SqsJobQueue) -> None:
    receiving = asyncio.create_task(
        queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    )
    await asyncio.sleep(0.2)  # its poll is under way
    await queue.close()
    with pytest.raises(Unavailable, match="closed"):
        await receiving
