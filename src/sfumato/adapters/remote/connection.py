"""Calls to the service: with the token, with retries, and with errors as ours.

A URL of a bucket may be good for whoever knows it, so none is logged, and the token goes to the
service's own address alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx
import orjson
from pydantic import SecretStr

from sfumato.core.current import current
from sfumato.core.errors import (
    AttemptLost,
    Forbidden,
    InvalidRequest,
    NotFound,
    SfumatoError,
    StartupRefused,
    StorageFull,
    Unauthorized,
    Unavailable,
)
from sfumato.core.ports import Clock

log = logging.getLogger(__name__)

#: Statuses after which the same call may succeed.
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 1.5
#: An answer of the service and an object of a bucket are read up to these many bytes.
_MAX_ANSWER, _MAX_OBJECT = 16 << 20, 64 << 20
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
#: What an answer's code means here; other codes go by the status.
_BY_CODE: Mapping[str, type[SfumatoError]] = {
    error.code: error
    for error in (AttemptLost, Forbidden, NotFound, StorageFull, Unauthorized, InvalidRequest)
}
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 45.0
#: Shorter than servers keep an idle connection, so that none is used that they have just closed.
_IDLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the service calls this worker, and the seconds for which it keeps an attempt without a
    heartbeat."""

    worker: str
    lease: float


class RemoteConnection:
    """Open it with ``async with``.

    Args:
        url: the service's address. It must be ``https://``, but for this very machine.
        worker: this worker process's name, unlike any other's of the token.
        insecure: allow ``http://`` to other machines, where the network itself is private.

    Raises:
        StartupRefused: an address that would show the token to whoever listens.
    """

    def __init__(
        self, url: str, *, token: SecretStr, worker: str, clock: Clock, insecure: bool = False
    ) -> None:
        self._base = url.rstrip("/") + "/"
        self._insecure = insecure
        self._clock = clock
        self._away = False
        if not self._is_private(url):
            raise StartupRefused(
                f"{_place(url)} is not an https:// address; the token could be read on its way.",
                field="connect",
                accepted="https://…, or --insecure where the network itself is private",
            )
        #: TLS is verified. A redirect would take the token, or a picture, elsewhere.
        self.http = httpx.AsyncClient(
            auth=_OwnToken(self._base, token, worker),
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=32,
                keepalive_expiry=_IDLE_SECONDS,
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.aclose()

    def __repr__(self) -> str:
        return f"RemoteConnection({_place(self._base)!r})"

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        patience: float = 0.0,
    ) -> dict[str, Any] | None:
        """The JSON answer of the worker API; None when it is empty.

        Every call of that API may be made twice, so one that is not answered is made again, for
        ``patience`` seconds.

        Raises:
            Unauthorized, Forbidden: the token is not good, or not for this.
            AttemptLost, NotFound, InvalidRequest, StorageFull: as the service says.
            Unavailable: it does not answer.
        """
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        url = urljoin(self._base, f"v1/worker{path}")
        answer = await self._send(method, url, content, headers, patience)
        if not answer:
            return None
        try:
            data = orjson.loads(answer)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            raise Unavailable(f"{_place(url)} answers, but not as a Sfumato service does.")
        return data

    async def greet(self, runtime: str) -> Greeting:
        """See that the service answers and lets this worker in.

        Raises:
            Unauthorized, Forbidden: the token is not good, or not for that runtime.
            Unavailable: it does not answer.
        """
        answer = await self.call("GET", "")
        if answer is None:
            raise Unavailable(f"{_place(self._base)} answers, but not as a Sfumato service does.")
        if runtime not in answer["runtimes"]:
            raise Forbidden(
                f"This worker token is not for the runtime {runtime!r}.",
                field="runtime",
                accepted=answer["runtimes"],
            )
        return Greeting(str(answer["worker"]), float(answer["lease"]))

    async def put(
        self, url: str, data: bytes, headers: Mapping[str, str], *, patience: float
    ) -> None:
        """PUT an object where the service said. Raises as :meth:`call`."""
        await self._send("PUT", self.resolved(url), data, headers, patience)

    async def get(self, url: str, *, patience: float) -> bytes:
        """Raises as :meth:`call`; ``NotFound`` too where a bucket does not tell what it lacks."""
        return await self._send("GET", self.resolved(url), None, {}, patience, limit=_MAX_OBJECT)

    def resolved(self, url: str) -> str:
        """A URL that the service gave: a bucket's, or a path below the service's own address.

        Raises ``Unavailable`` for one that would go over the network in the clear.
        """
        whole = url if urlsplit(url).scheme else urljoin(self._base, url.lstrip("/"))
        if not self._is_private(whole):
            raise Unavailable(f"The service keeps files at {_place(whole)}, which is not https://.")
        return whole

    def _is_private(self, url: str) -> bool:
        parts = urlsplit(url)
        if parts.scheme == "http":
            return self._insecure or _LOOPBACK.fullmatch(parts.hostname or "") is not None
        return parts.scheme == "https"

    async def _send(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        patience: float,
        *,
        limit: int = _MAX_ANSWER,
    ) -> bytes:
        deadline, delay = self._clock.monotonic() + patience, _FIRST_DELAY
        while True:
            try:
                answer = await self._send_once(method, url, content, headers, limit)
            except Unavailable as error:
                left = deadline - self._clock.monotonic()
                if left <= 0 or isinstance(error, StorageFull):
                    raise
                if not self._away:
                    log.warning("%s; trying again, while the work goes on", error)
                self._away = True
            else:
                if self._away:
                    log.info("%s answers again", _place(url))
                self._away = False
                return answer
            # Spread, so that many workers do not come back at one moment.
            await asyncio.sleep(min(left, delay * random.uniform(0.5, 1.0)))  # noqa: S311
            delay = min(_LONGEST_DELAY, delay * 2)

    async def _send_once(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str], limit: int
    ) -> bytes:
        try:
            async with self.http.stream(
                method, url, content=content, headers=dict(headers)
            ) as response:
                answer = bytearray()
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > limit:
                        raise Unavailable(f"{_place(url)} answers with more than {limit} bytes.")
        except httpx.HTTPError as error:
            raise Unavailable(f"{_place(url)} does not answer ({type(error).__name__}).") from None
        if response.is_success:
            return bytes(answer)
        raise _error_of(response.status_code, bytes(answer), _place(url))


class _OwnToken(httpx.Auth):
    """Shows the token to the service, and to nobody else whom it sends us to; and which trace the
    call is part of."""

    def __init__(self, base: str, token: SecretStr, worker: str) -> None:
        self._origin = _origin(httpx.URL(base))
        self._token = token
        self._worker = worker

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
            request.headers["X-Sfumato-Worker"] = self._worker
            if (traceparent := current().traceparent) is not None:
                request.headers["traceparent"] = traceparent
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _error_of(status: int, answer: bytes, place: str) -> SfumatoError:
    """The service's own words for an error of its own; of a bucket's answer only the status."""
    try:
        problem = orjson.loads(answer)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code, detail = "", f"{place} answers with HTTP status {status}."
    if status in _TRY_AGAIN:
        return Unavailable(detail)
    if code in _BY_CODE:
        return _BY_CODE[code](detail)
    if status == 507:
        return StorageFull(detail)
    if not code and status in (403, 404):
        # A bucket's: a URL that has expired, or an object that is not there.
        return NotFound(detail)
    return InvalidRequest(detail) if code else Unavailable(detail)


def _place(url: str) -> str:
    """The address alone: the rest of a URL may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
