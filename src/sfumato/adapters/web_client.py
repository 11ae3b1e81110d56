"""Reaching addresses that callers name, without being led to where only we can go.

A name is resolved once; every address that it has must be public, and the connection goes to one
of those very addresses, so that a name which answers otherwise the next time gains nothing. The
forms in which an address may be written (decimal, octal, mapped into IPv6) make no difference:
what counts is where the system would connect to. TLS is checked against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx

from sfumato.core.errors import InvalidRequest, Unavailable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Every address of a host, for a port.
Names = Callable[[str, int], Awaitable[Sequence[str]]]

#: IPv6 prefixes that carry an IPv4 address, and how many bits follow it.
_CARRIERS = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (ipaddress.IPv6Network("::/96"), 0),  # compatible, of old
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)
_MAX_REDIRECTS = 3
_MAX_URL = 2_048
_PICTURES = ("image/", "application/octet-stream", "binary/octet-stream")
#: What the address of a picture must be.
_PICTURE = "a public address of a PNG, JPEG or WebP picture"
_AGENT = "Sfumato (+https://github.com/sfumato/sfumato)"


class GuardedWebClient:
    """Implements :class:`sfumato.core.ports.WebClient`.

    Args:
        plain_http: whether ``http`` is accepted beside ``https``.
        networks: private networks that may be reached all the same, as a cluster's own.
        timeout: seconds that a whole exchange may take.
        names: in place of the system's own resolver.
    """

    def __init__(
        self,
        *,
        plain_http: bool = False,
        networks: Sequence[Network] = (),
        timeout: float = 20.0,
        names: Names | None = None,
    ) -> None:
        self._schemes = ("https", "http") if plain_http else ("https",)
        self._networks = networks
        self._timeout = timeout
        self._names = names or _system_names
        self._client = httpx.AsyncClient(
            trust_env=False,  # a proxy would resolve the name anew
            follow_redirects=False,
            timeout=timeout,
            # Unpacking is where small answers become large ones.
            headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            # A connection that is kept would be used for every name at its address, whichever
            # name its certificate was checked against.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    def check(self, url: str, *, field: str) -> None:
        self._parsed(url, field)

    async def read(self, url: str, *, field: str, limit: int) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._read(self._parsed(url, field), field, limit)
        except TimeoutError:
            raise _refused(field, f"did not send its picture within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _refused(field, f"can't be read ({type(error).__name__})") from None

    async def _read(self, url: httpx.URL, field: str, limit: int) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            request = await self._request("GET", url, field)
            answer = await self._client.send(request, stream=True)
            try:
                if not answer.is_redirect:
                    return await _body(answer, field, limit)
                onward = urljoin(str(url), answer.headers["location"])
            finally:
                await answer.aclose()
            further = self._parsed(onward, field)
            if _origin(further) != _origin(url):
                raise _refused(field, "sends on to another address")
            url = further
        raise _refused(field, "sends on and on")

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        try:
            async with asyncio.timeout(self._timeout):
                parsed = self._parsed(url, "webhook")
                request = await self._request("POST", parsed, "webhook", body, headers)
                answer = await self._client.send(request, stream=True)
                await answer.aclose()  # whatever it says, only its status counts
                return answer.status_code
        except TimeoutError:
            raise Unavailable(f"The webhook did not answer within {self._timeout:g} s.") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"The webhook can't be reached ({type(error).__name__}).") from None

    def _parsed(self, url: str, field: str) -> httpx.URL:
        try:
            plain = url.isascii() and url.isprintable() and " " not in url
            parsed = httpx.URL(url) if plain and len(url) <= _MAX_URL else httpx.URL("")
        except (httpx.InvalidURL, ValueError):
            parsed = httpx.URL("")
        if parsed.scheme not in self._schemes or not parsed.host or parsed.userinfo:
            raise _refused(field, "is no address that may be used", _public(self._schemes))
        literal = parsed.host.strip("[]")
        try:
            address = ipaddress.ip_address(literal)
        except ValueError:
            return parsed
        self._check_public([address], field)
        return parsed

    async def _request(
        self,
        method: str,
        url: httpx.URL,
        field: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        """A request to one of the very addresses that were looked at."""
        address = await self._resolve(url, field)
        host = url.raw_host.decode("ascii")
        port = f":{url.port}" if url.port is not None else ""
        return self._client.build_request(
            method,
            url.copy_with(host=str(address)),
            content=body,
            headers={**(headers or {}), "Host": f"{_bracketed(host)}{port}"},
            extensions={"sni_hostname": host},
        )

    async def _resolve(self, url: httpx.URL, field: str) -> _Address:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await self._names(url.raw_host.decode("ascii"), port)
        except OSError:
            raise _refused(
                field, "names a host that is not known", _public(self._schemes)
            ) from None
        addresses = [ipaddress.ip_address(name.partition("%")[0]) for name in found]
        self._check_public(addresses, field)
        return addresses[0]

    def _check_public(self, addresses: Sequence[_Address], field: str) -> None:
        for address in addresses:
            if not all(self._is_open(each) for each in _meanings(address)):
                raise _refused(
                    field, "is in a private network, or on this machine", _public(self._schemes)
                )

    def _is_open(self, address: _Address) -> bool:
        if any(address in network for network in self._networks):
            return True
        return address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_unspecified
        )


def _meanings(address: _Address) -> list[_Address]:
    """The address, or the IPv4 address that it carries, to which a network may translate it."""
    if isinstance(address, ipaddress.IPv6Address):
        for carrier, after in _CARRIERS:
            if address in carrier and int(address) > 1:
                carried = ipaddress.IPv4Address(int(address) >> after & 0xFFFFFFFF)
                return [carried] if carrier.prefixlen == 96 else [address, carried]
    return [address]


async def _system_names(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _body(answer: httpx.Response, field: str, limit: int) -> bytes:
    if answer.status_code != 200:
        raise _refused(field, f"answered {answer.status_code}")
    kind = answer.headers.get("content-type", "application/octet-stream").lower()
    if not kind.startswith(_PICTURES) or "content-encoding" in answer.headers:
        raise _refused(field, "is no picture")
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise _refused(field, f"has more than {limit >> 20} MiB")
    return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _public(schemes: Sequence[str] = ("https",)) -> str:
    return f"a public {' or '.join(schemes)} address"


def _refused(field: str, why: str, accepted: str = _PICTURE) -> InvalidRequest:
    """Never with the address in it: it may hold a secret."""
    return InvalidRequest(f"The address in {field} {why}.", field=field, accepted=accepted)
