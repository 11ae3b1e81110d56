"""The S3 client against a real socket: media types, failures, and no secret in any message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import NotFound, StartupRefused, StorageFull, Unavailable
from tests.support.answering import Answering

SECRETS = {"access_key_id": "AKIA-KEY-ID", "secret_access_key": "HIDDEN-SECRET"}


class Bucket(BaseHTTPRequestHandler):
    """Keeps objects by path. A key that begins with a number fails with that status; ``503x2`` for
    the first two times. Of an object in parts it refuses the second part."""

    objects: dict[str, tuple[bytes, str]]
    #: Refusals by path, and objects in parts that are under way.
    refused: Counter[str]
    uploads: set[str]
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", media_type: str = "text/xml") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", media_type)
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 05:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.rsplit("/", 1)[1]
        if "partNumber=2" in name:
            self.answer(403)
            return
        times = int(name[4]) if name[3:4] == "x" else None
        if name[:3].isdigit() and (times is None or self.refused[name] < times):
            self.refused[name] += 1
            self.answer(
                int(name[:3]), b"<Error><AWSAccessKeyId>AKIA-KEY-ID</AWSAccessKeyId></Error>"
            )
            return
        self.objects[self.path] = (body, self.headers["Content-Type"])
        self.answer(200)

    def do_POST(self) -> None:
        self.uploads.add("1")
        self.answer(
            200,
            b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
        )

    def do_DELETE(self) -> None:
        self.uploads.discard(self.path.rpartition("uploadId=")[2])
        self.answer(204)

    def do_GET(self) -> None:
        found = self.objects.get(self.path)
        self.answer(200, *found) if found else self.answer(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket() -> type[Bucket]:
    return type("FreshBucket", (Bucket,), {"objects": {}, "refused": Counter(), "uploads": set()})


@pytest.fixture
def endpoint(bucket: type[Bucket]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), bucket)
    with Answering(server):
        yield f"http://127.0.0.1:{server.server_port}"


def bucket_at(endpoint: str, *, patience: float = 0.2) -> ObjectImageStore:
    options = {**SECRETS, "endpoint": endpoint, "region": "eu-west-1", "allow_http": "true"}
    return ObjectImageStore("s3://pictures/prefix", options=options, patience=patience)


async def test_the_bucket_keeps_data_and_media_type(endpoint: str) -> None:
    store = bucket_at(endpoint)
    await store.put("jobs/a/first", b"data", media_type="image/webp")
    found = await store.get("jobs/a/first")
    assert (found.data, found.media_type) == (b"data", "image/webp")
    with pytest.raises(NotFound):
        await store.get("jobs/a/second")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, Unavailable), (403, Unavailable), (404, Unavailable), (507, StorageFull)],
)
async def test_a_refusal_is_told_without_what_the_bucket_quotes(
    endpoint: str, status: int, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        await bucket_at(endpoint).put(f"jobs/a/{status}.png", b"x", media_type="image/png")
    assert "s3://pictures/prefix" in str(caught.value)
    assert str(status) in str(caught.value)
    assert not any(secret in repr(caught.value) for secret in SECRETS.values())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_bucket_that_refuses_for_a_while_is_asked_again(
    endpoint: str, bucket: type[Bucket]
) -> None:
    store = bucket_at(endpoint, patience=30)
    await store.put("jobs/a/503x2.png", b"x", media_type="image/png")
    assert (await store.get("jobs/a/503x2.png")).data == b"x"
    assert bucket.refused["503x2.png"] == 2


async def test_an_object_that_fails_in_parts_leaves_none(
    endpoint: str, bucket: type[Bucket]
) -> None:
    with pytest.raises(Unavailable, match="403"):
        await bucket_at(endpoint).put("jobs/a/0.png", bytes(20 << 20), media_type="image/png")
    assert all("partNumber=" in key for key in bucket.objects)
    assert bucket.uploads == set()


async def test_nobody_at_home(endpoint: str) -> None:
    store = bucket_at("http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="Connection refused"):
        await store.put("jobs/a/0.png", b"x", media_type="image/png")


def test_what_cannot_be_opened_stops_the_start() -> None:
    with pytest.raises(StartupRefused, match="ftp://") as caught:
        ObjectImageStore("ftp://pictures")
    assert "s3://" in (caught.value.accepted or [])
    with pytest.raises(StartupRefused, match="UnknownConfigurationKey") as caught:
        ObjectImageStore("s3://pictures", options={"secret": "HIDDEN-SECRET"})
    assert "HIDDEN-SECRET" not in str(caught.value)


async def test_memory_lasts_as_long_as_the_store() -> None:
    store = ObjectImageStore("memory://")
    await store.put("a/first", b"x", media_type="image/webp")
    assert (await store.get("a/first")).media_type == "image/webp"
    with pytest.raises(NotFound):
        await ObjectImageStore("memory://").get("a/first")


def test_a_place_is_named_without_its_password() -> None:
    store = ObjectImageStore("s3://user:HIDDEN@pictures/p?sig=HIDDEN", options=SECRETS)
    assert "HIDDEN" not in store.place
