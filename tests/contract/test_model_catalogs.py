"""Every catalogue tells models of all kinds in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.adapters.models.joined import JoinedModelCatalog
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.models import ModelKind
from sfumato.core.ports import ModelCatalog
from tests.support.model_files import LORA, LORA_XL, SD1, SD2, VAE, write_safetensors
from tests.support.parts import ListCatalog
from tests.support.servers import S3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three models called photo, each of another kind, and a pickle."""
    write_safetensors(tmp_path / "Lora/aaa.safetensors", LORA_XL)
    write_safetensors(tmp_path / "Lora/photo.safetensors", LORA)
    write_safetensors(tmp_path / "VAE/photo.safetensors", VAE)
    (tmp_path / "Lora/old.pt").write_bytes(b"\x80")
    write_safetensors(tmp_path / "photo.safetensors", SD1)
    write_safetensors(tmp_path / "zebra.safetensors", SD2)
    return tmp_path


class ModelCatalogContract:
    @pytest.fixture
    def catalogue(self, folder: Path) -> ModelCatalog:
        raise NotImplementedError

    def test_every_kind_is_listed_and_names_are_unique_within_one(
        self, catalogue: ModelCatalog
    ) -> None:
        keys = [(model.kind.value, model.name) for model in catalogue.list()]
        assert len(keys) == len(set(keys))
        assert set(keys) == {
            ("lora", "aaa"),
            ("lora", "photo"),
            ("lora", "old"),
            ("vae", "photo"),
            ("base", "photo"),
            ("base", "zebra"),
        }

    def test_a_name_is_found_within_its_kind(self, catalogue: ModelCatalog) -> None:
        assert catalogue.get("photo").family == "sd1"
        assert catalogue.get("photo", ModelKind.LORA).kind is ModelKind.LORA
        assert catalogue.get("photo", ModelKind.VAE).kind is ModelKind.VAE
        for name, kind in (("zebra", ModelKind.LORA), ("aaa", ModelKind.BASE)):
            with pytest.raises(UnknownModel, match=name):
                catalogue.get(name, kind)

    def test_the_default_is_a_base_model(self, catalogue: ModelCatalog) -> None:
        assert catalogue.get(None).kind is ModelKind.BASE
        with pytest.raises(UnknownModel):
            catalogue.get(None, ModelKind.LORA)

    def test_a_near_name_is_of_the_same_kind(self, catalogue: ModelCatalog) -> None:
        with pytest.raises(UnknownModel, match=r"no VAE 'foto'\. Did you mean 'photo'") as unknown:
            catalogue.get("foto", ModelKind.VAE)
        assert unknown.value.accepted == ["photo"]

    def test_a_pickle_is_refused(self, catalogue: ModelCatalog) -> None:
        with pytest.raises(ModelRefused, match="a pickle"):
            catalogue.get("old", ModelKind.LORA)

    async def test_a_look_keeps_all_of_it(self, catalogue: ModelCatalog) -> None:
        before = list(catalogue.list())
        await catalogue.refresh()
        assert list(catalogue.list()) == before


class TestFolders(ModelCatalogContract):
    @pytest.fixture
    def catalogue(self, folder: Path) -> ModelCatalog:
        return FolderModelCatalog([folder])


class TestJoined(ModelCatalogContract):
    @pytest.fixture
    def catalogue(self, folder: Path) -> ModelCatalog:
        apart = folder / ".apart"
        apart.mkdir()
        for name in ("Lora", "VAE"):
            (folder / name).rename(apart / name)
        catalogs = [
            FolderModelCatalog([place]) for place in (apart / "Lora", apart / "VAE", folder)
        ]
        return JoinedModelCatalog(catalogs, default="photo")


class TestBucket(ModelCatalogContract):
    @pytest.fixture
    async def catalogue(self, folder: Path, s3_server: S3, s3_bucket: str) -> ModelCatalog:
        store = ModelStore.open(f"s3://{s3_bucket}/models", s3_server.options)
        for path in sorted(folder.rglob("*")):  # noqa: ASYNC240 - a few small files
            if path.is_file():
                await store.put(path.relative_to(folder).as_posix(), path.read_bytes())
        return BucketModelCatalog(store)


class TestList(ModelCatalogContract):
    """What the tests of services use in their place."""

    @pytest.fixture
    def catalogue(self, folder: Path) -> ModelCatalog:
        models = FolderModelCatalog([folder]).list()
        return ListCatalog(sorted(models, key=lambda model: model.kind is not ModelKind.BASE))
