"""How the client talks, without any talking: what to send, how to read what came, when to try again.

The blocking and the asynchronous client differ only in how they carry a :class:`Call` out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import httpx

from sfumato.client import errors, problems
from sfumato.client.results import Job
from sfumato.core.job import JobStatus

DEFAULT_URL = "http://127.0.0.1:8080"
#: A service that asks for more patience than this is asked again by the caller, not by us.
MAX_RETRY_AFTER = 30.0
_FIRST_DELAY = 0.25

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. It may be sent twice without doing its work twice: it reads, or sets what is
    set already, or, as a submission must, carries an idempotency key."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def settle(
        self, outcome: httpx.Response | httpx.RequestError, *, attempt: int, retries: int
    ) -> Done[T] | Again:
        """The answer, or when to try again. ``attempt`` counts from 1.

        Raises:
            ClientError: the kind that fits.
        """
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return Done(self.read(outcome))
        error = problems.error_of(outcome)
        patience = error.retry_after if isinstance(error, errors.Overloaded) else None
        worth_it = isinstance(error, errors.Unreachable | errors.Overloaded)
        if not worth_it or attempt > retries or (patience or 0.0) > MAX_RETRY_AFTER:
            raise error
        return Again(retry_delay(attempt) if patience is None else patience)


def retry_delay(attempt: int) -> float:
    """Seconds before another try: a quarter, a half, one, two …"""
    return float(_FIRST_DELAY * 2 ** (attempt - 1))


def connection(base_url: str, *, key: str | None, timeout: float) -> dict[str, Any]:
    """What httpx's clients are made with.

    Raises:
        InvalidRequest: the address is none, or the key could never be one; it is not repeated.
    """
    url = _address(base_url)
    headers = {}
    if key is not None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise errors.InvalidRequest(
                "The key is empty, or holds characters that no key has.",
                code="invalid_key",
                field="key",
                accepted="the key as `sfumato keys create` printed it",
            )
        headers["Authorization"] = f"Bearer {key}"
    return {
        "base_url": url,
        "timeout": timeout,
        "headers": headers,
        "trust_env": _trusts_environment(url),
    }


def method_of(call: Callable[..., Call[Any]], method: F) -> F:
    """The method with the name, the words and the arguments of the call that it carries out."""
    method.__name__, method.__doc__ = call.__name__, call.__doc__
    arguments = inspect.signature(call).parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    vars(method)["__signature__"] = inspect.Signature([own, *arguments])
    return method


def finished(job: Job) -> Job:
    """The job, if it succeeded.

    Raises:
        JobFailed, JobCanceled: it did not.
    """
    if job.status is JobStatus.CANCELED:
        raise errors.JobCanceled(f"Job {job.id} was canceled.", code="canceled", job=job)
    if job.error is not None:
        raise errors.JobFailed(
            f"Job {job.id} failed: {job.error.message}", code=job.error.code, job=job
        )
    return job


def _address(text: str) -> str:
    """A base URL out of what people type: ``localhost:8080`` means http."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise errors.InvalidRequest(
            f"{text!r} is no address of a service.",
            code="invalid_address",
            field="base_url",
            accepted="http://host:port or https://host",
        )
    return str(url)


def _trusts_environment(base_url: str) -> bool:
    """Whether proxies of the environment apply: never to a service on this machine."""
    host = httpx.URL(base_url).host
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
