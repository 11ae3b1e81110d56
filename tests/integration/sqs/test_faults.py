"""SQS that goes away, forgets, or refuses: what a process of ours then says and does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from aiobotocore.session import get_session

from sfumato.adapters.sqs import SqsJobQueue
from sfumato.core.errors import StartupRefused, Unavailable
from sfumato.core.ports import Ring
from tests.contract.job_queue import PATIENCE, ManualClock
from tests.support.aws import REGION, open_aws
from tests.support.servers import PrivateAws, private

VISIBILITY = 20.0


@pytest.fixture
def server(aws_credentials: None) -> Iterator[PrivateAws]:
    with private(PrivateAws) as server:
        assert isinstance(server, PrivateAws)
        yield server


async def _open(endpoint: str | None, url: str = f"sqs://{REGION}/x") -> SqsJobQueue:
    return await SqsJobQueue.open(url, ManualClock(), runtimes=["sd15"], endpoint=endpoint)


async def test_a_server_that_forgot_its_queues_gets_them_anew(server: PrivateAws) -> None:
    queue = await _open(server.url)
    await queue.ring(Ring("before", "sd15"))
    held = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert held is not None
    server.restart()  # it keeps nothing

    await queue.ring(Ring("after", "sd15"))
    delivery = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.ring.job_id == "after"
    assert not await held.extend(VISIBILITY)
    await held.ack()
    async with AsyncExitStack() as stack:
        aws = await open_aws(stack, server.url)
        await aws.publish("x", {"job_id": "through the topic"}, {"runtime": "sd15"})
    delivery = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    assert delivery.ring.job_id == "through the topic"
    await queue.close()


async def test_while_the_server_is_away_every_call_says_so_and_then_works_again(
    server: PrivateAws,
) -> None:
    queue = await _open(server.url)
    waiting = asyncio.create_task(queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE))
    await asyncio.sleep(0.2)  # its poll is under way
    server.stop()
    with pytest.raises(Unavailable, match="can't be reached"):
        await waiting
    with pytest.raises(Unavailable, match="can't be reached"):
        await queue.ring(Ring("j", "sd15"))
    with pytest.raises(Unavailable):
        await queue.depth("sd15")
    server.start()
    await queue.ring(Ring("j", "sd15"))
    delivery = await queue.receive(["sd15"], visibility=VISIBILITY, timeout=PATIENCE)
    assert delivery is not None
    await queue.close()


async def test_a_start_without_a_server_says_what_to_look_at(server: PrivateAws) -> None:
    server.stop()
    with pytest.raises(StartupRefused, match=r"can't be reached.*region right") as refused:
        await _open(server.url)
    assert refused.value.field == "queue_url"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqs://nowhere/x", "names no region"),
        ("sqs://key:hush@eu-west-1/x", "holds a user or a password"),
        ("sqs://eu-west-1/a.b", "needs a name"),
        ("sqs://eu-west-1/x?tpic=y", "unknown option 'tpic'"),
        ("sqs://eu-west-1/x?topic=a.b", "names no SNS topic"),
        ("sqs:///x", "names no region"),
    ],
)
async def test_a_wrong_url_is_refused_and_not_repeated(url: str, words: str) -> None:
    with pytest.raises(StartupRefused, match=words) as refused:
        await _open(None, url)
    assert "hush" not in json.dumps(refused.value.as_dict())
    assert refused.value.field == "queue_url"


async def test_without_credentials_it_tells_where_they_are_looked_for(
    server: PrivateAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StartupRefused, match="AWS_ACCESS_KEY_ID"):
        await _open(server.url)


async def test_a_profile_that_there_is_not_is_said(
    server: PrivateAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StartupRefused, match="AWS's own settings"):
        await _open(server.url)


async def test_wrong_credentials_are_named_so(server: PrivateAws) -> None:
    _check_credentials(server)
    with pytest.raises(StartupRefused, match="AWS refuses these credentials") as refused:
        await _open(server.url)
    assert "testing" not in json.dumps(refused.value.as_dict())


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (["sqs:Get*"], r"queue x-sd15-dead does not exist in .*sqs:CreateQueue"),
        (["sqs:*"], r"subscribed to the SNS topic x.*sns:Subscribe"),
        (["sns:*"], r"queue x-sd15 can't be looked up.*sqs:GetQueueUrl"),
    ],
)
async def test_a_missing_permission_is_named(
    server: PrivateAws, monkeypatch: pytest.MonkeyPatch, allowed: list[str], words: str
) -> None:
    await _become(server, monkeypatch, allowed)
    with pytest.raises(StartupRefused, match=words) as refused:
        await _open(server.url)
    assert refused.value.field == "queue_url"


async def test_without_a_topic_no_permission_of_sns_is_needed(
    server: PrivateAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _become(server, monkeypatch, ["sqs:*"])
    queue = await _open(server.url, f"sqs://{REGION}/x?topic=off")
    await queue.ring(Ring("j", "sd15"))
    await queue.close()


async def _become(server: PrivateAws, monkeypatch: pytest.MonkeyPatch, allowed: list[str]) -> None:
    """From here on, be somebody who may do that alone."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}],
    }
    async with get_session().create_client(
        "iam", region_name=REGION, endpoint_url=server.url
    ) as iam:
        await iam.create_user(UserName="worker")
        await iam.put_user_policy(
            UserName="worker", PolicyName="p", PolicyDocument=json.dumps(policy)
        )
        made = await iam.create_access_key(UserName="worker")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKey"]["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["AccessKey"]["SecretAccessKey"])
    _check_credentials(server)


def _check_credentials(server: PrivateAws) -> None:
    """From here on the server looks at signatures and permissions."""
    answer = httpx.post(f"{server.url}/moto-api/reset-auth", content=b"0", trust_env=False)
    assert answer.status_code == 200
