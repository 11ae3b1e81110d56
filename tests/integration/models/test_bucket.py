"""The catalogue over a bucket of a real S3 server."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.adapters.models.buckets import BucketModelCatalog
from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.adapters.models.joined import JoinedModelCatalog
from sfumato.adapters.models.manifest import MANIFEST
from sfumato.adapters.models.publishing import BucketShelf
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import (
    Conflict,
    InvalidRequest,
    ModelRefused,
    NotFound,
    StartupRefused,
    Unavailable,
    UnknownModel,
)
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from tests.support.model_files import SD1, write_safetensors, write_whole_folder


def described(path: Path) -> ModelInfo:
    (info,) = FolderModelCatalog([path]).list()
    return info


def names_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


async def publish(store: ModelStore, folder: Path, *, replacing: bool = False) -> ModelInfo:
    shelf = BucketShelf(store)
    return await shelf.add(described(folder), folder, lambda *_: None, replacing=replacing)


async def copy(store: ModelStore, folder: Path, prefix: str) -> None:
    """As `aws s3 cp --recursive` does."""
    for name in names_in(folder):
        await store.put(f"{prefix}{name}", (folder / name).read_bytes())


async def test_a_published_model_is_listed_with_everything_known(
    store: ModelStore, tmp_path: Path
) -> None:
    published = await publish(store, write_whole_folder(tmp_path / "photo"))
    (found,) = BucketModelCatalog(store).list()
    assert found == published
    assert (found.name, found.family, found.path) == ("photo", "sd1", "")
    assert len(found.sha256) == 64
    assert found.memory_bytes == described(tmp_path / "photo").memory_bytes > 0
    assert {file.path for file in found.files} >= {"model_index.json", "unet/model.safetensors"}
    # The order in which its files are named does not change what a model is.
    assert replace(found, files=found.files[::-1]).sha256 == found.sha256


async def test_what_was_copied_there_is_described_from_its_files(
    store: ModelStore, tmp_path: Path
) -> None:
    await copy(store, write_whole_folder(tmp_path / "folder"), "deep/folder/")
    write_safetensors(tmp_path / "loose/photo.safetensors", SD1)
    (tmp_path / "loose/photo.json").write_text(json.dumps({"title": "Photo"}))
    (tmp_path / "loose/old.ckpt").write_bytes(b"\x80")
    await copy(store, tmp_path / "loose", "")
    models = {model.name: model for model in BucketModelCatalog(store).list()}
    assert set(models) == {"folder", "photo", "old"}
    assert (models["folder"].layout, models["folder"].family) == (ModelLayout.DIFFUSERS, "sd1")
    assert models["folder"].source == "deep/folder/"
    assert (models["photo"].layout, models["photo"].title) == (ModelLayout.CHECKPOINT, "Photo")
    assert [file.path for file in models["photo"].files] == ["photo.safetensors", "photo.json"]
    assert "is a pickle" in (models["old"].refusal or "")
    assert models["photo"].sha256 == "", "nobody has computed it"


async def test_a_model_that_is_uploaded_file_by_file_is_never_served_in_part(
    store: ModelStore, tmp_path: Path
) -> None:
    whole = write_whole_folder(tmp_path / "photo")
    names = names_in(whole)
    catalogue = BucketModelCatalog(store)
    for first in names:
        for name in [first, *(other for other in names if other != first)]:
            await catalogue.refresh()
            with pytest.raises((UnknownModel, ModelRefused)) as refused:
                catalogue.get("photo")
            if isinstance(refused.value, ModelRefused):
                assert "is incomplete" in refused.value.message
                assert "missing" in refused.value.message
            await store.put(f"photo/{name}", (whole / name).read_bytes())
        await catalogue.refresh()
        assert catalogue.get("photo").refusal is None
        for name in names:
            await store.delete(f"photo/{name}")


async def test_a_model_that_is_published_is_there_with_its_manifest(
    store: ModelStore, tmp_path: Path
) -> None:
    """Every object but the last leaves it refused, whichever comes first."""
    await publish(store, write_whole_folder(tmp_path / "photo"))
    objects = {key: store.read_now(key, 0, file.size_bytes) for key, file in store.list().items()}
    manifest = f"photo/{MANIFEST}"
    for key in objects:
        await store.delete(key)
    catalogue = BucketModelCatalog(store)
    assert not catalogue.list()
    for key in [*(key for key in objects if key != manifest), manifest]:
        await store.put(key, objects[key])
        await catalogue.refresh()
        if key != manifest:
            with pytest.raises(ModelRefused, match="is incomplete"):
                catalogue.get("photo")
    assert catalogue.get("photo").refusal is None
    lost = next(key for key in objects if key.endswith("unet/model.safetensors"))
    await store.put(lost, objects[lost][:-1])
    await catalogue.refresh()
    with pytest.raises(ModelRefused, match=r"is damaged: unet/model.safetensors has .* bytes"):
        catalogue.get("photo")
    await store.delete(lost)
    await catalogue.refresh()
    with pytest.raises(ModelRefused, match=r"unet/model.safetensors is missing"):
        catalogue.get("photo")


async def test_truncated_weights_are_refused_by_their_header(
    store: ModelStore, tmp_path: Path
) -> None:
    folder = write_whole_folder(tmp_path / "photo", weights=1000)
    cut = (folder / "unet/model.safetensors").read_bytes()[:-7]
    (folder / "unet/model.safetensors").write_bytes(cut)
    await copy(store, folder, "photo/")
    write_safetensors(tmp_path / "one.safetensors", SD1)
    await store.put("one.safetensors", (tmp_path / "one.safetensors").read_bytes()[:-1])
    models = {model.name: model for model in BucketModelCatalog(store).list()}
    assert "unet/model.safetensors: it is truncated" in (models["photo"].refusal or "")
    assert "one.safetensors: it is truncated" in (models["one"].refusal or "")


async def test_a_manifest_that_leads_out_of_the_model_is_refused(
    store: ModelStore, tmp_path: Path
) -> None:
    await publish(store, write_whole_folder(tmp_path / "photo"))
    key = f"photo/{MANIFEST}"
    content = json.loads(store.read_now(key, 0, 1 << 20))
    for path in ("../../etc/passwd", "/etc/passwd", "a/../../b", ""):
        content["files"][0]["path"] = path
        await store.put(key, json.dumps(content).encode())
        (found,) = BucketModelCatalog(store).list()
        assert "leads out of the model" in (found.refusal or "")
    await store.put(key, json.dumps({"format": 99}).encode())
    (found,) = BucketModelCatalog(store).list()
    assert "format 99" in (found.refusal or "")


async def test_replacing_leaves_no_moment_without_a_whole_model(
    store: ModelStore, tmp_path: Path
) -> None:
    before = await publish(store, write_whole_folder(tmp_path / "a/photo"))
    with pytest.raises(Conflict, match="--replace"):
        await publish(store, write_whole_folder(tmp_path / "b/photo", fill=b"\1"))
    assert BucketModelCatalog(store).get("photo") == before
    seen: list[ModelInfo] = []
    catalogue = BucketModelCatalog(store)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            catalogue._look()
            seen.append(catalogue.get("photo"))  # raises where it is refused

    looking = threading.Thread(target=look)
    looking.start()
    after = await publish(store, tmp_path / "b/photo", replacing=True)
    done.set()
    looking.join()
    assert {model.sha256 for model in seen} <= {before.sha256, after.sha256}
    assert BucketModelCatalog(store).get("photo") == after
    assert len(store.list()) == len(after.files) + 1, "nothing is left of the first"


async def test_removing_takes_the_manifest_first_and_leaves_nothing(
    store: ModelStore, tmp_path: Path
) -> None:
    await publish(store, write_whole_folder(tmp_path / "photo"))
    await publish(store, write_whole_folder(tmp_path / "photo-2"))
    shelf = BucketShelf(store)
    assert (
        await shelf.remove("photo", ModelKind.BASE) == len(described(tmp_path / "photo").files) + 1
    )
    assert [model.name for model in BucketModelCatalog(store).list()] == ["photo-2"]
    assert all(key.startswith("photo-2/") for key in store.list())
    with pytest.raises(NotFound, match="no model 'photo'"):
        await shelf.remove("photo", ModelKind.BASE)


async def test_names_that_are_no_folder_names_are_refused(
    store: ModelStore, tmp_path: Path
) -> None:
    write_whole_folder(tmp_path / "photo")
    for name in ("../up", ".hidden", "a/b", "", "x" * 129):
        with pytest.raises(InvalidRequest, match="name"):
            await BucketShelf(store).add(
                replace(described(tmp_path / "photo"), name=name),
                tmp_path / "photo",
                lambda *_: None,
                replacing=False,
            )
    assert not store.list()


async def test_one_listing_serves_all_who_ask_at_once(store: ModelStore, tmp_path: Path) -> None:
    await publish(store, write_whole_folder(tmp_path / "photo"))
    catalogue = BucketModelCatalog(store)
    listings = 0
    listed = store.list

    def counted() -> object:
        nonlocal listings
        listings += 1
        return listed()

    store.list = counted  # type: ignore[method-assign, assignment]
    await catalogue.refresh(max_age=60)
    catalogue.list()
    catalogue.get("photo")
    assert listings == 0
    await catalogue.refresh()
    assert listings == 1


async def test_local_and_bucket_models_make_one_catalogue(
    store: ModelStore, tmp_path: Path
) -> None:
    await publish(store, write_whole_folder(tmp_path / "photo"))
    write_whole_folder(tmp_path / "local/photo")
    write_whole_folder(tmp_path / "local/other")
    catalogue = JoinedModelCatalog(
        [BucketModelCatalog(store), FolderModelCatalog([tmp_path / "local"])], default="photo"
    )
    await catalogue.refresh()
    assert [model.name for model in catalogue.list()] == ["photo", "other", "photo-2"]
    assert catalogue.get(None).source
    assert catalogue.get("photo-2").path == str(tmp_path / "local/photo")
    with pytest.raises(UnknownModel, match="photo"):
        catalogue.get("phot")


def test_what_is_wrong_with_the_url_is_named(
    bucket_url: str, options: dict[str, str], tmp_path: Path
) -> None:
    for url in ("ftp://somewhere/x", "s3://", "s3:///models"):
        with pytest.raises(StartupRefused, match=r"can't be kept at"):
            ModelStore.open(url, options)
    with pytest.raises(StartupRefused, match=r"does not exist.*SFUMATO_MODELS_URL"):
        BucketModelCatalog(ModelStore.open("s3://nowhere-at-all/models", options))
    secret = {**options, "secret_access_key": "wrong-and-hidden"}
    with pytest.raises(StartupRefused, match=r"refuses these credentials") as refused:
        BucketModelCatalog(ModelStore.open(bucket_url, secret))
    assert "hidden" not in str(refused.value)
    closed = {**options, "endpoint": "http://127.0.0.1:9"}
    with pytest.raises(Unavailable, match="does not answer"):
        BucketModelCatalog(ModelStore.open(bucket_url, closed))


async def test_a_bucket_that_goes_away_leaves_what_was_known(
    store: ModelStore, options: dict[str, str], bucket_url: str, tmp_path: Path
) -> None:
    await publish(store, write_whole_folder(tmp_path / "photo"))
    catalogue = BucketModelCatalog(store)
    catalogue._store = ModelStore.open(bucket_url, {**options, "endpoint": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable):
        await catalogue.refresh()
    assert catalogue.get("photo").name == "photo"


async def test_who_wants_to_see_what_is_new_waits_for_a_look_that_has_begun(
    store: ModelStore, tmp_path: Path
) -> None:
    catalogue = BucketModelCatalog(store)
    await publish(store, write_whole_folder(tmp_path / "photo"))
    listed, begun, go_on = store.list, threading.Event(), threading.Event()

    def held() -> object:
        begun.set()
        assert go_on.wait(30)
        return listed()

    store.list = held  # type: ignore[method-assign, assignment]
    catalogue._seen_at = float("-inf")
    assert not catalogue.list(), "answers at once, and looks behind the back of whoever asks"
    await asyncio.to_thread(begun.wait)
    refreshed = asyncio.create_task(catalogue.refresh(max_age=60))
    await asyncio.sleep(0)
    assert not refreshed.done()
    go_on.set()
    await refreshed
    assert catalogue.get("photo").name == "photo"


async def test_what_an_add_left_that_was_killed_is_refused_and_replaced_by_the_next(
    store: ModelStore, tmp_path: Path
) -> None:
    await store.put("photo/.0123456789abcdef/unet/model.safetensors", b"half")
    (found,) = BucketModelCatalog(store).list()
    assert "is incomplete" in (found.refusal or "")
    added = await publish(store, write_whole_folder(tmp_path / "photo"))
    assert BucketModelCatalog(store).get("photo") == added
    assert len(store.list()) == len(added.files) + 1
