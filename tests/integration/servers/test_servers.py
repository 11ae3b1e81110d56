"""The servers that other tests stand on."""

from __future__ import annotations

from pathlib import Path

import aio_pika
import aiobotocore.session
import httpx
import psycopg
import pytest

from scripts.servers.registry import Entry, Process, Registry
from tests.support.servers import S3, PrivateAws, private


def test_a_fresh_database_is_empty_and_ours(fresh_postgres_url: str, postgres_url: str) -> None:
    assert fresh_postgres_url != postgres_url
    with psycopg.connect(fresh_postgres_url) as connection:
        connection.execute("CREATE TABLE jobs (id text)")
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


async def test_rabbitmq_answers(rabbitmq_url: str) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        assert not connection.is_closed


async def test_a_bucket_keeps_an_object(s3_server: S3, s3_bucket: str) -> None:
    async with s3_server.client() as client:
        await client.put_object(Bucket=s3_bucket, Key="a", Body=b"x")
        found = await client.get_object(Bucket=s3_bucket, Key="a")
        async with found["Body"] as body:
            assert await body.read() == b"x"


async def test_sqs_answers(aws_endpoint: str) -> None:
    async with aiobotocore.session.get_session().create_client(
        "sqs",
        endpoint_url=aws_endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    ) as client:
        assert "QueueUrl" in await client.create_queue(QueueName="trial")


def test_a_private_server_is_killed_comes_back_where_it_was_and_leaves_nothing() -> None:
    """Of the quickest to start; the others' faults are those of the adapters' own tests."""
    with private(PrivateAws) as server:
        url = server.url
        server.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)
        server.start()
        assert httpx.get(f"{server.url}/moto-api/", trust_env=False).status_code == 200
        assert server.url == url
    assert not server.folder.exists()


def test_the_registry_tells_what_has_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scripts.servers.registry._FILE", tmp_path / "services.json")
    with private(PrivateAws) as server:
        processes = tuple(map(Process.of, server.pids))
        Registry({"aws": Entry(server.url, processes), "postgres": Entry("found")}).write()
        assert Registry.read().servers.keys() == {"aws", "postgres"}
        server.kill()
        assert Registry.read().servers.keys() == {"postgres"}
