"""A bucket that goes away while a model is copied: its server is really killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.publishing import BucketShelf
from sfumato.adapters.models.sources import BucketSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout
from tests.integration.models.conftest import options_of
from tests.support.servers import S3, PrivateS3, private

SIZE = 200 << 20


def written(folder: Path) -> ModelInfo:
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(range(256)) * (SIZE // 256))
    file = ModelFile("weights.bin", SIZE)
    return ModelInfo("photo", "sd1", ModelLayout.DIFFUSERS, "", files=(file,))


@pytest.mark.timeout(180)
async def test_a_copy_goes_on_when_the_server_is_back(tmp_path: Path) -> None:
    with private(PrivateS3) as server:
        place = S3(server.url)
        bucket = await asyncio.to_thread(place.new_bucket)
        store = ModelStore.open(f"s3://{bucket}/models", options_of(place))
        info = written(tmp_path / "photo")
        await BucketShelf(store).add(info, tmp_path / "photo", lambda *_: None, replacing=False)
        catalogue = BucketModelCatalog(store)

        async def latest(model: ModelInfo) -> ModelInfo:
            return model

        cache = ModelCache(
            tmp_path / "cache",
            budget=1 << 40,
            source_of=lambda model: BucketSource(store, model.source),
            latest=latest,
        )
        begun = asyncio.Event()

        def progress(done: int, total: int) -> None:
            if 0 < done < total:
                begun.set()

        async def use() -> bytes:
            async with cache.hold([catalogue.get("photo")], progress) as (local,):
                return (Path(local.path) / "weights.bin").read_bytes()

        using = asyncio.create_task(use())
        await begun.wait()
        server.kill()
        assert not using.done()
        with pytest.raises(Unavailable):
            await catalogue.refresh()
        assert catalogue.get("photo").refusal is None, "what was known stays known"
        await asyncio.to_thread(server.restart)
        try:
            content = await using
        except Unavailable:  # a slow start took all of its tries; a job's next attempt goes on
            content = await use()
        assert content == (tmp_path / "photo/weights.bin").read_bytes()
        await catalogue.refresh()
