"""The native API as the client speaks it, without any talking: requests out, answers in.

A :class:`Call` says what to send, how to read the answer, and when to try again. The blocking and
the asynchronous client differ only in how they carry it out.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from sfumato.client import errors, problems
from sfumato.client.pictures import Files, form
from sfumato.client.results import ImageInfo, Job, JobPage, Model, ModelList, Runtime, RuntimeList
from sfumato.core.job import JobStatus

DEFAULT_URL = "http://127.0.0.1:8080"
PAGE_SIZE = 100
#: A service that asks for more patience than this is asked again by the caller, not by us.
MAX_RETRY_AFTER = 30.0
_FIRST_DELAY = 0.25

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. Every call here may be sent twice without doing its work twice."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str] = field(default_factory=dict)
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


# -- requests ------------------------------------------------------------------------------------


def submit(
    prompt: str, options: Mapping[str, object], *, idempotency_key: str | None = None
) -> Call[Job]:
    """Reads the files of the options' pictures.

    Raises:
        InvalidRequest: for a value that JSON can't hold, as NaN, or a picture that is none.
        OSError: a file can't be read.
    """
    files = Files()
    content = _encoded({"prompt": prompt, **files.attached(options)})
    media_type = "application/json"
    if files.parts:
        media_type, content = form(content, files.parts)
    return Call(
        "POST",
        "/v1/jobs",
        _reader(Job),
        headers={
            "Content-Type": media_type,
            # Always sent, so that a submission whose answer got lost can be repeated.
            "Idempotency-Key": idempotency_key or secrets.token_urlsafe(24),
        },
        content=content,
    )


def get(job_id: str) -> Call[Job]:
    return Call("GET", _job_path(job_id), _reader(Job))


def cancel(job_id: str) -> Call[Job]:
    return Call("POST", f"{_job_path(job_id)}/cancel", _reader(Job))


def job_page(status: JobStatus | str | None, cursor: str | None) -> Call[JobPage]:
    params = {"limit": str(PAGE_SIZE), "status": status and str(status), "cursor": cursor}
    return Call(
        "GET",
        "/v1/jobs",
        _reader(JobPage),
        params={name: value for name, value in params.items() if value},
    )


def image(info: ImageInfo) -> Call[bytes]:
    return Call("GET", info.url, lambda response: response.content)


def models(kind: str) -> Call[tuple[Model, ...]]:
    read = _reader(ModelList)
    return Call("GET", "/v1/models", lambda response: read(response).models, params={"kind": kind})


def runtimes() -> Call[tuple[Runtime, ...]]:
    read = _reader(RuntimeList)
    return Call("GET", "/v1/runtimes", lambda response: read(response).runtimes)


def events_path(job_id: str) -> str:
    return f"{_job_path(job_id)}/events"


def address(text: str) -> str:
    """A base URL out of what people type: ``localhost:8080`` means http.

    Raises:
        InvalidRequest: it is no address at all.
    """
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


def trusts_environment(base_url: str) -> bool:
    """Whether proxies of the environment apply: never to a service on this machine."""
    host = httpx.URL(base_url).host
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _encoded(body: Mapping[str, object]) -> bytes:
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise errors.InvalidRequest(
                f"{name} is {value!r}, which JSON can't hold.", code="invalid_request", field=name
            ) from None
    return json.dumps(body).encode()


# -- answers -------------------------------------------------------------------------------------


def _reader(kind: type[M]) -> Callable[[httpx.Response], M]:
    def read(response: httpx.Response) -> M:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise problems.no_service_of_ours(response, str(error.errors()[0]["msg"])) from None

    return read


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
