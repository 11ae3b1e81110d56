"""An S3 server that is killed, restarted, or refuses for a while."""

from __future__ import annotations

import asyncio

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import Unavailable
from tests.support.servers import S3, PrivateS3, private


async def test_a_bucket_that_is_killed_is_told_waited_for_and_whole_again() -> None:
    with private(PrivateS3) as server:
        s3 = S3(server.url)
        place = f"s3://{await s3.make_bucket()}"
        images = ObjectImageStore(place, options=s3.options)
        hurried = ObjectImageStore(place, options=s3.options, patience=0.2)
        await images.put("jobs/a/0.png", b"before", media_type="image/png")

        server.kill()
        with pytest.raises(Unavailable, match="Connection refused"):
            await hurried.put("jobs/a/1.png", b"lost", media_type="image/png")
        waiting = asyncio.create_task(images.put("jobs/a/2.png", b"amid", media_type="image/png"))
        # Nobody listens, so it has failed at least once before the server is back.
        await asyncio.to_thread(server.start)
        await waiting

        await hurried.put("jobs/a/1.png", b"after", media_type="image/png")
        stored = [await images.get(f"jobs/a/{index}.png") for index in range(3)]
        assert [image.data for image in stored] == [b"before", b"after", b"amid"]


async def test_a_bucket_that_is_gone_is_no_missing_picture(s3_server: S3, s3_bucket: str) -> None:
    """A caller who is told "not found" would not come back."""
    images = ObjectImageStore(f"s3://{s3_bucket}", options=s3_server.options)
    async with s3_server.client() as client:
        await client.delete_bucket(Bucket=s3_bucket)
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        await images.get("jobs/a/0.png")
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        await images.put("jobs/a/0.png", b"x", media_type="image/png")


async def test_a_large_picture_goes_up_in_parts(s3_server: S3, s3_bucket: str) -> None:
    images = ObjectImageStore(f"s3://{s3_bucket}", options=s3_server.options)
    large = bytes(range(256)) * (70 << 10)
    await images.put("jobs/a/0.png", large, media_type="image/png")
    assert (await images.get("jobs/a/0.png")).data == large
    async with s3_server.client() as client:
        found = await client.head_object(Bucket=s3_bucket, Key="jobs/a/0.png")
        left = await client.list_multipart_uploads(Bucket=s3_bucket)
    # The server counts the parts in the tag of an object that was put together.
    assert found["ETag"].strip('"').endswith("-3")
    assert found["ContentType"] == "image/png"
    assert "immutable" in found["CacheControl"]
    assert left.get("Uploads", []) == []
