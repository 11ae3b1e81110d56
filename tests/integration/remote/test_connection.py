"""What a worker elsewhere does when its service is away, lies, or sends it elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from sfumato.adapters.remote import RemoteConnection
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.errors import (
    AttemptLost,
    Forbidden,
    NotFound,
    StartupRefused,
    Unauthorized,
    Unavailable,
)

SECRET = "sfw_very-secret"

#: (method and path, headers) -> the whole answer.
Answer = Callable[[str, dict[str, str]], bytes]


def connect(url: str, *, insecure: bool = False) -> RemoteConnection:
    return RemoteConnection(
        url, token=SecretStr(SECRET), worker="w1", clock=SystemClock(), insecure=insecure
    )


def answer(status: int, body: str = "{}", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def problem(status: int, code: str) -> bytes:
    return answer(status, f'{{"code": "{code}", "detail": "in its own words"}}')


@contextlib.asynccontextmanager
async def saying(respond: Answer, port: int = 0) -> AsyncIterator[str]:
    """A server that answers by script."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            await reader.readexactly(int(headers.get("content-length", 0)))
            writer.write(respond(head[0].rpartition(" ")[0], headers))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "url", ["http://example.com", "ftp://example.com", "example.com", "http://127.evil.example"]
)
def test_an_address_that_would_show_the_token_is_refused(url: str) -> None:
    with pytest.raises(StartupRefused, match="https"):
        connect(url)


async def test_this_machine_and_what_is_called_private_may_be_plain() -> None:
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://a.example"):
        async with connect(url):
            pass
    async with connect("http://10.0.0.1", insecure=True) as connection:
        assert SECRET not in repr(connection)


async def test_the_token_goes_to_the_service_and_to_nobody_it_names() -> None:
    seen: dict[str, str | None] = {}

    def respond(request: str, headers: dict[str, str]) -> bytes:
        seen[request] = headers.get("authorization")
        return answer(200, "")

    async with saying(respond) as service, saying(respond) as bucket, connect(service) as remote:
        await remote.put("/v1/worker/here", b"x", {}, patience=0)
        await remote.put(f"{bucket}/there?signature=abc", b"x", {}, patience=0)
        await remote.get(f"{bucket}/there?signature=abc", patience=0)
    assert seen == {
        "PUT /v1/worker/here": f"bearer {SECRET}",
        "PUT /there?signature=abc": None,
        "GET /there?signature=abc": None,
    }


async def test_a_redirect_is_not_followed() -> None:
    seen = []

    def respond(request: str, headers: dict[str, str]) -> bytes:
        seen.append(request)
        return answer(307, "", Location="/v1/elsewhere")

    async with saying(respond) as service, connect(service) as remote:
        with pytest.raises(Unavailable, match="307"):
            await remote.call("GET", "")
    assert seen == ["GET /v1/worker"]


async def test_a_service_that_sends_us_to_a_plain_address_is_not_obeyed() -> None:
    async with connect("https://service.example") as remote:
        with pytest.raises(Unavailable, match="not https"):
            await remote.put("http://bucket.example/k?signature=abc", b"x", {}, patience=0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (problem(401, "unauthorized"), Unauthorized),
        (problem(403, "forbidden"), Forbidden),
        (problem(409, "attempt_lost"), AttemptLost),
        (problem(404, "not_found"), NotFound),
        (problem(503, "stopping"), Unavailable),
        (answer(502, "<html>a proxy's page</html>"), Unavailable),
        (answer(200, "<html>a proxy's page</html>"), Unavailable),
        (answer(200, "[]"), Unavailable),
        (answer(200, "x" * (17 << 20)), Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Unavailable),
        (b"not HTTP at all\r\n\r\n", Unavailable),
        (b"", Unavailable),
    ],
)
async def test_every_answer_is_an_error_of_ours(said: bytes, error: type[Exception]) -> None:
    async with saying(lambda _request, _headers: said) as service, connect(service) as remote:
        with pytest.raises(error):
            await remote.call("POST", "/claim", {})


async def test_a_service_that_comes_back_is_asked_again() -> None:
    answers = iter([b"", problem(503, "stopping"), problem(429, "overloaded"), answer(200)])
    script = saying(lambda _request, _headers: next(answers))
    async with script as service, connect(service) as remote:
        assert await remote.call("POST", "/claim", {}, patience=30) == {}


async def test_a_refusal_is_not_asked_again() -> None:
    answers = iter([problem(409, "attempt_lost")])
    script = saying(lambda _request, _headers: next(answers))
    async with script as service, connect(service) as remote:
        with pytest.raises(AttemptLost, match="in its own words"):
            await remote.call("POST", "/claim", {}, patience=30)


async def test_neither_token_nor_signature_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sfumato")
    script = saying(lambda _request, _headers: answer(403, "<Error/>"))
    async with script as service, connect(service) as remote:
        with pytest.raises(NotFound) as caught:
            await remote.get(f"{service}/k?X-Signature=abc", patience=0.1)
    with contextlib.suppress(Unavailable):
        async with connect(service) as remote:
            await remote.get(f"{service}/k?X-Signature=abc", patience=0.1)
    for secret in ("abc", SECRET):
        assert secret not in caplog.text + str(caught.value)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1000))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"https://127.0.0.1:{port}") as remote:
            with pytest.raises(Unavailable, match="does not answer"):
                await remote.call("GET", "")
    assert seen == []


def self_signed(folder: Path) -> Path:
    """A key and a certificate for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
