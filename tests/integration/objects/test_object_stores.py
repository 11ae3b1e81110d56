"""The object store keeps every promise of its port, in memory and in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.ports import ImageStore
from tests.contract.image_store import ImageStoreContract


class TestInMemory(ImageStoreContract):
    @pytest.fixture
    async def images(self) -> ObjectImageStore:
        return ObjectImageStore("memory://")


class TestInAFolder(ImageStoreContract):
    @pytest.fixture
    async def images(self, tmp_path: Path) -> ObjectImageStore:
        return ObjectImageStore(tmp_path)

    async def test_a_second_put_replaces_the_object_whole(self, images: ImageStore) -> None:
        """A folder tells the type by the key's extension, which a job's keys never change."""
        await images.put("jobs/a/0.png", b"a longer first picture", media_type="image/png")
        await images.put("jobs/a/0.png", b"short", media_type="image/png")
        assert (await images.get("jobs/a/0.png")).data == b"short"
