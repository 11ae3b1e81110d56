"""Ranges over HTTP: presigned URLs of a real S3 server, and a server that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.http_source import HttpSource
from sfumato.adapters.models.sources import FileSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import ModelUnusable, Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout
from tests.support.answering import Answering

CONTENT = bytes(range(256)) * 100_000


class Handler(BaseHTTPRequestHandler):
    """The number in the path is its answer's status."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1])
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        body = CONTENT[int(first) : int(last) + 1] if status == 206 else CONTENT[:10]
        if self.path.endswith("/cut"):
            self.send_response(206)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        pass


@pytest.fixture
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with Answering(httpd):
        yield f"http://127.0.0.1:{httpd.server_port}"


class Urls:
    def __init__(self, *urls: str) -> None:
        self.urls = list(urls)
        self.renewed = 0

    async def url_of(self, file: ModelFile, renew: bool) -> str:
        self.renewed += renew
        return self.urls[min(self.renewed, len(self.urls) - 1)]


FILE = ModelFile("unet/x.safetensors", len(CONTENT))


async def test_a_model_comes_by_presigned_urls_alone(store: ModelStore, tmp_path: Path) -> None:
    await store.put("photo/x.bin", CONTENT)
    file = ModelFile("x.bin", len(CONTENT))

    async def url_of(file: ModelFile, renew: bool) -> str:
        url = await store.download_url(f"photo/{file.path}", expires=60)
        assert url is not None
        return url

    async with httpx.AsyncClient() as client:

        async def latest(model: ModelInfo) -> ModelInfo:
            return model

        cache = ModelCache(
            tmp_path,
            budget=1 << 40,
            source_of=lambda _model: HttpSource(client, url_of),
            latest=latest,
        )
        model = ModelInfo("photo", "sd1", ModelLayout.DIFFUSERS, "", source="api", files=(file,))
        async with cache.hold([model], lambda *_: None) as (local,):
            found = await FileSource(Path(local.path)).read(file, 0, len(CONTENT))
    assert found == CONTENT


async def test_an_expired_url_is_asked_for_anew(server: str) -> None:
    urls = Urls(f"{server}/403/x", f"{server}/206/x")
    async with httpx.AsyncClient() as client:
        source = HttpSource(client, urls.url_of)
        assert await source.read(FILE, 100, 300) == CONTENT[100:300]
        assert urls.renewed == 1
        assert await source.read(FILE, 0, 3) == CONTENT[:3]
        assert urls.renewed == 1


async def test_a_whole_answer_to_a_range_from_the_start_will_do(server: str) -> None:
    async with httpx.AsyncClient() as client:
        source = HttpSource(client, Urls(f"{server}/200/x").url_of)
        assert await source.read(FILE, 0, 10) == CONTENT[:10]
        with pytest.raises(Unavailable):
            await source.read(FILE, 5, 10)


async def test_failures_name_the_file_and_never_the_url(server: str) -> None:
    async with httpx.AsyncClient() as client:
        for path, kind in (
            ("404/x?signature=hidden", ModelUnusable),
            ("412/x?signature=hidden", ModelUnusable),
            ("403/x?signature=hidden", Unavailable),
            ("503/x?signature=hidden", Unavailable),
            ("206/cut", Unavailable),
        ):
            source = HttpSource(client, Urls(f"{server}/{path}").url_of)
            with pytest.raises(kind, match=r"unet/x.safetensors") as failed:
                await source.read(FILE, 0, 100)
            assert "hidden" not in str(failed.value)
        source = HttpSource(client, Urls("http://127.0.0.1:9/x").url_of)
        with pytest.raises(Unavailable, match="ConnectError"):
            await source.read(FILE, 0, 100)


async def test_a_bucket_object_that_was_replaced_is_told_from_the_one_listed(
    store: ModelStore,
) -> None:
    await store.put("x.bin", b"first one")
    version = store.list()["x.bin"].version
    assert await store.read("x.bin", 0, 5, version=version) == b"first"
    await store.put("x.bin", b"other one")
    with pytest.raises(ModelUnusable, match="was replaced"):
        await store.read("x.bin", 0, 5, version=version)
