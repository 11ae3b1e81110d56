"""Azure and Google: what their clients make of our settings, without the clouds."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import StartupRefused
from tests.support.answering import Answering

_KEY = base64.b64encode(b"HIDDEN-SECRET").decode()

#: As both clouds' documents give it.
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>…</Message></Error>"


class Refusing(BaseHTTPRequestHandler):
    """Answers every write with one status and body."""

    status: int
    body: bytes

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[tuple[str, type[Refusing]]]:
    handler = type("FreshRefusing", (Refusing,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with Answering(server):
        yield f"http://127.0.0.1:{server.server_port}", handler


def azure(endpoint: str | None = None) -> ObjectImageStore:
    options = {"account_name": "studio", "account_key": _KEY}
    if endpoint is not None:
        options |= {"endpoint": endpoint, "allow_http": "true"}
    return ObjectImageStore("az://pictures/prefix", options=options)


def google(endpoint: str) -> ObjectImageStore:
    account = {
        "gcs_base_url": endpoint,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
    }
    options = {"service_account_key": json.dumps({**account, "private_key_id": ""})}
    return ObjectImageStore("gs://pictures/prefix", options={**options, "allow_http": "true"})


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (404, "ContainerNotFound", "Make the bucket"),
        (403, "AuthenticationFailed", "does not know these credentials"),
        (403, "AuthorizationPermissionMismatch", "Allow these credentials to write"),
    ],
)
async def test_azure_says_what_is_wrong(
    refusing: tuple[str, type[Refusing]], status: int, code: str, remedy: str
) -> None:
    endpoint, handler = refusing
    handler.status, handler.body = status, _ERROR.format(code).encode()
    with pytest.raises(StartupRefused, match=code) as caught:
        await azure(endpoint).check()
    assert remedy in caught.value.message
    assert "HIDDEN" not in repr(caught.value)
    assert _KEY not in repr(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (404, "NoSuchBucket", "Make the bucket"),
        (403, "AccessDenied", "Allow these credentials to write"),
    ],
)
async def test_google_says_what_is_wrong(
    refusing: tuple[str, type[Refusing]], status: int, code: str, remedy: str
) -> None:
    endpoint, handler = refusing
    handler.status, handler.body = status, _ERROR.format(code).encode()
    with pytest.raises(StartupRefused, match=code) as caught:
        await google(endpoint).check()
    assert remedy in caught.value.message


async def test_azure_signs_for_one_object_and_one_aim() -> None:
    url = await azure().upload_url("jobs/a/0.png", expires=60)
    assert url is not None
    parts = urlsplit(url)
    assert (parts.hostname, parts.path) == (
        "studio.blob.core.windows.net",
        "/pictures/prefix/jobs/a/0.png",
    )
    assert "w" in parse_qs(parts.query)["sp"][0]
    reading = await azure().download_url("jobs/a/0.png", expires=60)
    assert parse_qs(urlsplit(reading or "").query)["sp"] == ["r"]
