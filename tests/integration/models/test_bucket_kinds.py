"""LoRAs and other weights in a bucket of a real S3 server: listed, added, brought to a worker."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.adapters.models.joined import JoinedModelCatalog
from sfumato.adapters.models.manifest import Manifest, decode
from sfumato.adapters.models.publishing import BucketShelf
from sfumato.adapters.models.sources import BucketSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from tests.support.model_cache import read
from tests.support.model_files import (
    LORA,
    LORA_XL,
    SD1,
    UPSCALER,
    VAE,
    write_component,
    write_safetensors,
    write_whole_folder,
)


def ignore(_done: int, _total: int) -> None:
    pass


def names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


async def put(store: ModelStore, root: Path) -> None:
    for name in names_in(root):
        await store.put(name, read(str(root / name)))


async def test_a1111s_folders_in_a_bucket(store: ModelStore, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "models/Stable-diffusion/photo.safetensors", SD1)
    write_safetensors(tmp_path / "models/Lora/styles/ink.safetensors", LORA)
    write_safetensors(tmp_path / "models/Lora/pytorch_lora_weights.safetensors", LORA_XL)
    write_safetensors(tmp_path / "models/ESRGAN/ultra.safetensors", UPSCALER)
    write_safetensors(tmp_path / "models/vae/clear.safetensors", VAE)
    net = {"_class_name": "ControlNetModel", "cross_attention_dim": 1024}
    folder = tmp_path / "models/ControlNet/canny"
    write_component(folder, net, weights="diffusion_pytorch_model.safetensors")
    (tmp_path / "models/ESRGAN/old.pth").write_bytes(b"\x80")
    (tmp_path / "models/Lora/cut.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    write_whole_folder(tmp_path / "models/folder")
    await put(store, tmp_path)
    found = {(model.kind.value, model.name): model for model in BucketModelCatalog(store).list()}
    assert {key: (model.family, model.refusal is None) for key, model in found.items()} == {
        ("base", "photo"): ("sd1", True),
        ("base", "folder"): ("sd1", True),
        ("lora", "ink"): ("sd1", True),
        ("lora", "pytorch_lora_weights"): ("sdxl", True),
        ("lora", "cut"): ("", False),
        ("upscaler", "ultra"): ("", True),
        ("upscaler", "old"): ("", False),
        ("vae", "clear"): ("", True),
        ("controlnet", "canny"): ("sd2", True),
    }
    assert found["lora", "ink"].source == "models/Lora/styles/"


async def test_names_are_found_by_kind_and_joined_by_kind(
    store: ModelStore, tmp_path: Path
) -> None:
    write_safetensors(tmp_path / "there/photo.safetensors", LORA)
    await put(store, tmp_path / "there")
    write_safetensors(tmp_path / "here/photo.safetensors", SD1)
    write_safetensors(tmp_path / "here/loras/photo.safetensors", LORA_XL)
    joined = JoinedModelCatalog(
        [BucketModelCatalog(store), FolderModelCatalog([tmp_path / "here"])], default="photo"
    )
    assert joined.get(None).kind is ModelKind.BASE
    assert joined.get("photo", ModelKind.LORA).family == "sd1"
    assert joined.get("photo-2", ModelKind.LORA).family == "sdxl"
    assert {(model.kind.value, model.name) for model in joined.list()} == {
        ("lora", "photo"),
        ("base", "photo"),
        ("lora", "photo-2"),
    }


async def test_an_added_lora_is_whole_and_comes_to_a_worker(
    store: ModelStore, tmp_path: Path
) -> None:
    write_safetensors(tmp_path / "ink.safetensors", LORA)
    (info,) = FolderModelCatalog([tmp_path]).list()
    shelf = BucketShelf(store)
    added = await shelf.add(info, tmp_path, ignore, replacing=False)
    base = replace(info, kind=ModelKind.BASE, family="sd1")
    await shelf.add(base, tmp_path, ignore, replacing=False)
    catalogue = BucketModelCatalog(store)
    lora = catalogue.get("ink", ModelKind.LORA)
    assert lora == added
    assert lora.sha256
    assert catalogue.get("ink").source != lora.source

    async def latest(model: ModelInfo) -> ModelInfo:
        return catalogue.get(model.name, model.kind)

    cache = ModelCache(
        tmp_path / "cache",
        budget=1 << 30,
        source_of=lambda model: BucketSource(store, model.source),
        latest=latest,
    )
    async with cache.hold([lora], ignore) as (local,):
        assert read(local.path) == (tmp_path / "ink.safetensors").read_bytes()
    assert await shelf.remove("ink", ModelKind.LORA) == 2
    assert await shelf.holds("ink", ModelKind.BASE)
    assert not await shelf.holds("ink", ModelKind.LORA)


def test_a_manifest_of_before_there_were_kinds_is_a_base_models() -> None:
    file = ModelFile("x.safetensors", 1, "ab" * 32)
    model = ModelInfo("ink", "sd1", ModelLayout.CHECKPOINT, "", files=(file,), kind=ModelKind.LORA)
    assert decode(Manifest(model).encode()).model == model
    content = json.loads(Manifest(model).encode())
    del content["model"]["kind"]
    assert decode(json.dumps(content).encode()).model.kind is ModelKind.BASE
