"""Each request of the native API, as a :class:`~sfumato.client.wire.Call`.

What a function here says of its arguments holds for both clients' method of the same name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from sfumato.client import errors, problems
from sfumato.client.costs import CostList, CostTotal
from sfumato.client.offers import (
    Catalogue,
    Model,
    Runtime,
    RuntimeList,
    Scaling,
    Worker,
    WorkerList,
)
from sfumato.client.pictures import Files, form
from sfumato.client.results import ImageInfo, Job, JobPage
from sfumato.client.webhooks import WebhookReport, WebhookSecret
from sfumato.client.wire import Call
from sfumato.core.charges import CostGroup
from sfumato.core.job import JobStatus

PAGE_SIZE = 100

M = TypeVar("M", bound=BaseModel)


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


def job_page(status: JobStatus | str | None, cursor: str | None) -> Call[JobPage]:
    params = {"limit": str(PAGE_SIZE), "status": status and str(status), "cursor": cursor}
    return Call(
        "GET",
        "/v1/jobs",
        _reader(JobPage),
        params={name: value for name, value in params.items() if value},
    )


def events_path(job_id: str) -> str:
    return _job_path(job_id, "/events")


def get(job_id: str) -> Call[Job]:
    """The job as it is now. Raises ``NotFound``."""
    return Call("GET", _job_path(job_id), _reader(Job))


def cancel(job_id: str) -> Call[Job]:
    """Take a job back. Raises ``Conflict`` when it has succeeded or failed already."""
    return Call("POST", _job_path(job_id, "/cancel"), _reader(Job))


def image(info: ImageInfo) -> Call[bytes]:
    """A picture as an encoded file."""
    # The path alone, so that no answer leads the caller's key to another host.
    return Call("GET", httpx.URL(info.url).raw_path.decode(), _bytes)


def input_image(job_id: str, sha256: str) -> Call[bytes]:
    """A picture that a job's request brought along, by its digest there, as it came."""
    return Call("GET", _job_path(job_id, f"/inputs/{quote(sha256, safe='')}"), _bytes)


def webhook(job_id: str) -> Call[WebhookReport]:
    """What was told of a job, and every try. Raises ``NotFound`` for a job without a webhook."""
    return Call("GET", _job_path(job_id, "/webhook"), _reader(WebhookReport))


def replay_webhook(job_id: str, *, after: int = 0) -> Call[WebhookReport]:
    """Tell a job's events with a number above ``after`` again. Each keeps its ``webhook-id``."""
    return Call(
        "POST",
        _job_path(job_id, "/webhook/replay"),
        _reader(WebhookReport),
        params={"after": str(after)},
    )


def webhook_secret() -> Call[str]:
    """What the caller's own webhooks are signed with, as the Standard Webhooks' libraries take it."""
    read = _reader(WebhookSecret)
    return Call("GET", "/v1/webhooks/secret", lambda response: read(response).secret)


def catalogue(*, kind: str = "base") -> Call[Catalogue]:
    """As ``models``, together with the names of every sampler and schedule."""
    return Call("GET", "/v1/models", _reader(Catalogue), params={"kind": kind})


def models(*, kind: str = "base") -> Call[tuple[Model, ...]]:
    """Those that draw, or the weights of another kind, as ``lora``; ``all`` for every kind."""
    read = _reader(Catalogue)
    return Call("GET", "/v1/models", lambda response: read(response).models, params={"kind": kind})


def model(name: str, *, kind: str = "base") -> Call[Model]:
    """One model, with the words that it knows. Raises ``NotFound``."""
    return Call("GET", f"/v1/models/{quote(name)}", _reader(Model), params={"kind": kind})


def runtimes() -> Call[tuple[Runtime, ...]]:
    """Every pool of workers and what it is doing."""
    read = _reader(RuntimeList)
    return Call("GET", "/v1/runtimes", lambda response: read(response).runtimes)


def workers() -> Call[tuple[Worker, ...]]:
    """Those that were heard of in the last half minute. A key needs to see everything for it."""
    read = _reader(WorkerList)
    return Call("GET", "/v1/workers", lambda response: read(response).workers)


def scaling(runtime: str) -> Call[Scaling]:
    """How many workers a runtime's open jobs ask for. A key needs to see everything for it."""
    return Call("GET", f"/v1/scaling/{quote(runtime, safe='')}", _reader(Scaling))


def costs(
    *,
    by: Sequence[CostGroup | str] = (),
    since: datetime | str | None = None,
    until: datetime | str | None = None,
) -> Call[tuple[CostTotal, ...]]:
    """What jobs took of the GPUs, and what that cost: the caller's own, or everybody's for a key
    that sees them.

    Args:
        by: what totals are told apart by: key, model, runtime, day; nothing: one total.
        since, until: when the attempts ended, as 2026-11-21 or a time; without a zone by UTC. Left
            out: the last 30 days.
    """
    read = _reader(CostList)
    params: dict[str, str | Sequence[str]] = {"group": [str(group) for group in by]}
    for name, moment in (("since", since), ("until", until)):
        if moment is not None:
            params[name] = moment if isinstance(moment, str) else moment.isoformat()
    return Call("GET", "/v1/costs", lambda response: read(response).costs, params=params)


def _job_path(job_id: str, below: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{below}"


def _bytes(response: httpx.Response) -> bytes:
    return response.content


def _reader(kind: type[M]) -> Callable[[httpx.Response], M]:
    def read(response: httpx.Response) -> M:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise problems.no_service_of_ours(response, str(error.errors()[0]["msg"])) from None

    return read


def _encoded(body: Mapping[str, object]) -> bytes:
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise errors.InvalidRequest(
                f"{name} is {value!r}, which JSON can't hold.", code="invalid_request", field=name
            ) from None
    return json.dumps(body).encode()
