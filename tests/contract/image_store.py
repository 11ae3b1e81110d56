"""What every ``ImageStore`` keeps. Inherit :class:`ImageStoreContract` and give it ``images``."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from sfumato.core.errors import NotFound
from sfumato.core.ports import ImageStore


class ImageStoreContract:
    #: Whether it makes URLs that need no credentials.
    signs = False

    @pytest.fixture
    async def images(self) -> ImageStore:
        raise NotImplementedError

    @pytest.mark.parametrize(
        ("key", "media_type"),
        [
            ("jobs/a/0.png", "image/png"),
            ("jobs/a/1.jpg", "image/jpeg"),
            ("jobs/a/2.webp", "image/webp"),
            ("jobs/a/a.json", "application/json"),
        ],
    )
    async def test_an_object_comes_back_with_its_type(
        self, images: ImageStore, key: str, media_type: str
    ) -> None:
        await images.put(key, b"\x00\xff", media_type=media_type)
        stored = await images.get(key)
        assert (stored.data, stored.media_type) == (b"\x00\xff", media_type)

    async def test_a_missing_object_is_not_found(self, images: ImageStore) -> None:
        with pytest.raises(NotFound):
            await images.get("jobs/none/0.png")
        with pytest.raises(NotFound):
            await images.size("jobs/none/0.png")

    async def test_an_objects_size_is_known_without_reading_it(self, images: ImageStore) -> None:
        await images.put("jobs/a/0.png", b"x" * 1234, media_type="image/png")
        assert await images.size("jobs/a/0.png") == 1234

    async def test_a_second_put_replaces_the_object_whole(self, images: ImageStore) -> None:
        await images.put("jobs/a/0.png", b"x" * 1000, media_type="image/png")
        await images.put("jobs/a/0.png", b"y", media_type="image/png")
        assert (await images.get("jobs/a/0.png")).data == b"y"

    async def test_an_empty_and_a_large_object(self, images: ImageStore) -> None:
        large = bytes(range(256)) * 40_000
        await images.put("jobs/a/0.png", b"", media_type="image/png")
        await images.put("jobs/a/1.png", large, media_type="image/png")
        assert (await images.get("jobs/a/0.png")).data == b""
        assert (await images.get("jobs/a/1.png")).data == large

    async def test_a_prefix_is_deleted_and_no_more(self, images: ImageStore) -> None:
        for key in ("jobs/a/0.png", "jobs/a/checkpoint/0.safetensors", "jobs/ab/0.png"):
            await images.put(key, b"x", media_type="image/png")
        assert await images.delete_prefix("jobs/a/") == 2
        assert await images.delete_prefix("jobs/a/") == 0
        assert (await images.get("jobs/ab/0.png")).data == b"x"
        with pytest.raises(NotFound):
            await images.get("jobs/a/0.png")

    async def test_many_at_once_of_one_key_leave_one_whole_object(self, images: ImageStore) -> None:
        bodies = [bytes([n]) * 10_000 for n in range(8)]
        await asyncio.gather(
            *(images.put("jobs/a/0.png", body, media_type="image/png") for body in bodies)
        )
        assert (await images.get("jobs/a/0.png")).data in bodies

    async def test_a_signed_url_reads_one_object(self, images: ImageStore) -> None:
        await images.put("jobs/a/0.png", b"a picture", media_type="image/png")
        url = await images.download_url("jobs/a/0.png", expires=60)
        assert (url is not None) == self.signs
        if url is None:
            return
        async with httpx.AsyncClient(trust_env=False) as anybody:
            answer = await anybody.get(url)
            assert (answer.status_code, answer.content) == (200, b"a picture")
            assert answer.headers["Content-Type"] == "image/png"
            assert (await anybody.put(url, content=b"another")).status_code == 403
            assert (await anybody.get(url.replace("jobs/a/0", "jobs/a/1"))).status_code == 403
        assert (await images.get("jobs/a/0.png")).data == b"a picture"

    async def test_a_signed_url_takes_one_object(self, images: ImageStore) -> None:
        url = await images.upload_url("jobs/a/0.webp", expires=60)
        assert (url is not None) == self.signs
        if url is None:
            return
        headers = {"Content-Type": "image/webp"}
        async with httpx.AsyncClient(trust_env=False) as anybody:
            assert (await anybody.put(url, content=b"x", headers=headers)).is_success
            assert (await anybody.get(url)).status_code == 403
        stored = await images.get("jobs/a/0.webp")
        assert (stored.data, stored.media_type) == (b"x", "image/webp")

    async def test_a_signed_url_ends(self, images: ImageStore) -> None:
        await images.put("jobs/a/0.png", b"a picture", media_type="image/png")
        url = await images.download_url("jobs/a/0.png", expires=1)
        if url is None:
            return
        async with httpx.AsyncClient(trust_env=False) as anybody, asyncio.timeout(60):
            while (await anybody.get(url)).status_code != 403:
                await asyncio.sleep(0.1)
