"""The servers that other tests stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aio_pika
import aiobotocore.session
import httpx
import psycopg
import pytest

from scripts.servers import Server
from tests.support.servers import S3, PrivateAws, PrivatePostgres, PrivateRabbit, PrivateS3, private


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


def postgres_keeps(server: PrivatePostgres) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (id int)")


def rabbit_keeps(server: PrivateRabbit) -> None:
    async def declare() -> None:
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True)

    asyncio.run(declare())


def s3_keeps(server: PrivateS3) -> None:
    S3(server.url).new_bucket()


def aws_keeps(server: PrivateAws) -> None:
    assert httpx.get(f"{server.url}/moto-api/").status_code == 200


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (PrivatePostgres, postgres_keeps),
        (PrivateRabbit, rabbit_keeps),
        (PrivateS3, s3_keeps),
        (PrivateAws, aws_keeps),
    ],
)
def test_a_private_server_is_killed_and_comes_back_where_it_was(
    kind: type[Server], use: Callable[[Server], None]
) -> None:
    with private(kind) as server:
        url = server.url
        use(server)
        server.kill()
        server.start()
        use(server)
        assert server.url == url
    assert not server.folder.exists()
