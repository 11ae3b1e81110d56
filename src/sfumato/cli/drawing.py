"""One job from its submission to its pictures, followed for whoever waits at the terminal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import typer

from sfumato.cli.connection import Address, Target, on_service
from sfumato.cli.progress import Display, Follower
from sfumato.core.events import Event

if TYPE_CHECKING:
    from sfumato.client import Client, Generation, Job, RequestOptions


def draw(
    prompt: str,
    options: Mapping[str, object],
    *,
    target: Target,
    shown: Display,
    told: Callable[[Event], None] | None = None,
    as_json: bool = False,
) -> Generation:
    """The pictures of one job, from the service that the command talks to.

    Interrupted, it cancels the job.

    Args:
        options: fields of the native API's request.
        shown: where its progress goes.
        told: called with each event, as it comes.
        as_json: whether standard error is for programs.
    """
    # With one key, submitting again to another service on the same data folder finds the job.
    key = secrets.token_urlsafe(24)

    def work(address: Address) -> Generation:
        with address.client() as client:
            given = cast("RequestOptions", dict(options))
            job = client.submit(prompt, idempotency_key=key, **given)
            try:
                return _follow(client, job, shown, told)
            except KeyboardInterrupt:
                _cancel(client, job, as_json=as_json)
                raise

    return on_service(target, shown, work)


def _follow(
    client: Client, job: Job, shown: Display, told: Callable[[Event], None] | None
) -> Generation:
    from sfumato.client import ClientError  # noqa: PLC0415 - httpx costs help its speed
    from sfumato.client.wire import finished  # noqa: PLC0415

    def why_waiting() -> str | None:
        try:
            return client.get(job.id).waiting
        except ClientError:
            return None

    with Follower(shown, why_waiting).following() as take:
        for event in client.stream(job.id):
            take(event)
            if told is not None:
                told(event)
    return client.fetch(finished(client.get(job.id)))


def _cancel(client: Client, job: Job, *, as_json: bool) -> None:
    from sfumato.client import ClientError  # noqa: PLC0415

    with suppress(ClientError):
        client.cancel(job.id)
        if not as_json:
            typer.secho(f"Canceled job {job.id}.", err=True)
