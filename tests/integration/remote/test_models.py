"""A model comes to a worker elsewhere over HTTPS alone, whole and checked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.http_source import HttpSource
from sfumato.adapters.remote import (
    RemoteConnection,
    RemoteModelUrls,
    latest_model,
    to_be_brought,
)
from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from tests.integration.api.serving import context_of, serving
from tests.support.model_cache import read
from tests.support.parts import MODEL, House, open_house

CONTENTS = {"model_index.json": b"{}", "unet/config.json": b"x" * 3_000_000, "a b.txt": b""}


@pytest.fixture
def model(tmp_path: Path) -> ModelInfo:
    """A model that lies in the service's folder."""
    folder = tmp_path / "there"
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    files = tuple(
        ModelFile(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in CONTENTS.items()
    )
    return replace(MODEL, path=str(folder), files=files)


@pytest.fixture
async def house(model: ModelInfo) -> AsyncIterator[House]:
    async with open_house(model) as house:
        yield house


@pytest.fixture
async def connection(house: House) -> AsyncIterator[RemoteConnection]:
    _, secret = await house.access.create(name="pc", runtimes=["default"])
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(context_of(house)))
        yield await stack.enter_async_context(
            RemoteConnection(address, token=SecretStr(secret), worker="w1", clock=house.clock)
        )


@pytest.fixture
def cache(connection: RemoteConnection, tmp_path: Path) -> ModelCache:
    return ModelCache(
        tmp_path / "here",
        budget=1 << 30,
        source_of=lambda model: HttpSource(
            connection.http, RemoteModelUrls(connection, model).url_of
        ),
        latest=lambda model: latest_model(connection, model),
    )


async def test_a_model_is_brought_whole(cache: ModelCache, model: ModelInfo) -> None:
    asked = to_be_brought(replace(model, path=""))
    async with cache.hold([asked], lambda _done, _total: None) as (local,):
        for path, content in CONTENTS.items():
            assert (Path(local.path) / path).read_bytes() == content


async def test_a_lora_of_a_models_name_is_another(
    cache: ModelCache, model: ModelInfo, house: House
) -> None:
    path = Path(model.path) / "pattern.safetensors"
    path.write_bytes(b"a LoRA")
    file = ModelFile(path.name, 6, hashlib.sha256(b"a LoRA").hexdigest())
    lora = ModelInfo(
        model.name,
        "sd1",
        ModelLayout.CHECKPOINT,
        str(path),
        kind=ModelKind.LORA,
        files=(file,),
    )
    house.catalog.models = [model, lora]
    wanted = [to_be_brought(replace(each, path="")) for each in (model, lora)]
    async with cache.hold(wanted, lambda _done, _total: None) as (base, beside):
        assert (Path(base.path) / "model_index.json").read_bytes() == b"{}"
        assert read(beside.path) == b"a LoRA"


async def test_a_model_that_was_replaced_meanwhile_comes_as_it_is_now(
    cache: ModelCache, model: ModelInfo, house: House
) -> None:
    asked = to_be_brought(replace(model, path=""))
    new = b"y" * 3_000_000
    (Path(model.path) / "unet/config.json").write_bytes(new)
    files = [
        replace(file, sha256=hashlib.sha256(new).hexdigest()) if "unet" in file.path else file
        for file in model.files
    ]
    house.catalog.models = [replace(model, files=tuple(files))]
    async with cache.hold([asked], lambda _done, _total: None) as (local,):
        assert (Path(local.path) / "unet/config.json").read_bytes() == new


async def test_a_file_that_is_not_what_the_catalogue_says_is_refused(
    cache: ModelCache, model: ModelInfo
) -> None:
    (Path(model.path) / "unet/config.json").write_bytes(b"z" * 3_000_000)
    with pytest.raises(ModelUnusable, match=r"unet/config\.json"):
        async with cache.hold([to_be_brought(replace(model, path=""))], lambda _d, _t: None):
            raise AssertionError("it was served")


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=1-1", 206, b"x"),
        ("bytes=2999999-", 206, b"x"),
        ("bytes=0-99999999", 206, b"x" * 3_000_000),
        (None, 200, b"x" * 3_000_000),
        ("bytes=3000000-", 416, None),
        ("bytes=5-4", 416, None),
        ("bytes=-5", 416, None),
        ("lines=1-2", 416, None),
    ],
)
async def test_ranges(
    connection: RemoteConnection, header: str | None, status: int, content: bytes | None
) -> None:
    url = connection.resolved("/v1/worker/model-files/pattern?path=unet/config.json")
    headers = {} if header is None else {"Range": header}
    answer = await connection.http.get(url, headers=headers)
    assert answer.status_code == status
    assert content is None or answer.content == content


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "unet", "", "unet/../../secret"])
async def test_no_other_file_is_served(
    connection: RemoteConnection, model: ModelInfo, path: str
) -> None:
    (Path(model.path).parent / "secret").write_text("secret")
    url = connection.resolved("/v1/worker/model-files/pattern")
    answer = await connection.http.get(url, params={"path": path})
    assert answer.status_code == 404
