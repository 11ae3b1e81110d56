"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from sfumato.client import calls, wire
from sfumato.client.errors import ClientError, WaitTimeout
from sfumato.client.options import RequestOptions
from sfumato.client.results import Generation, Image, Job
from sfumato.client.watching import Watch
from sfumato.core.events import Event
from sfumato.core.job import JobStatus

T = TypeVar("T")
P = ParamSpec("P")


def _asks(call: Callable[P, wire.Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method that carries a call out."""

    def method(self: Client, /, *arguments: P.args, **options: P.kwargs) -> T:
        return self._perform(call(*arguments, **options))

    return wire.method_of(call, method)


class Client:
    """Talks to one Sfumato service. Safe to share between threads; close it, or use ``with``.

    Args:
        base_url: where the service listens.
        key: an API key, where the service asks for one. It is sent nowhere else.
        timeout: seconds for an answer to one request; waiting for a job has its own.
        retries: how often a request is repeated after a lost connection, 429 or 503. No
            request is done twice for it: a submission carries an idempotency key.

    Every method raises a kind of :class:`~sfumato.client.errors.ClientError`.
    """

    def __init__(
        self,
        base_url: str = wire.DEFAULT_URL,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
    ) -> None:
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.Client(**wire.connection(base_url, key=key, timeout=timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def generate(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Generation:
        """Draw pictures and wait for them.

        Interrupted, or out of ``timeout`` seconds, it cancels the job before it raises.

        Raises:
            JobFailed, JobCanceled, WaitTimeout: the job did not succeed, or not in time.
        """
        job = self.submit(prompt, **options)
        try:
            job = wire.finished(self.wait(job.id, timeout=timeout))
        except (KeyboardInterrupt, WaitTimeout):
            with suppress(ClientError):
                self.cancel(job.id)
            raise
        return self.fetch(job)

    def submit(
        self,
        /,
        prompt: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Job:
        """Queue a job and return at once. A job that this answers outlives a crash.

        Args:
            idempotency_key: the same key and request give the same job. Left out: a random one.

        Raises:
            OSError: the file of a picture can't be read.
        """
        return self._perform(calls.submit(prompt, options, idempotency_key=idempotency_key))

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The job once it has finished, however it ended.

        Raises:
            WaitTimeout: not within ``timeout`` seconds. The job goes on.
        """
        for _ in self._events(job_id, 0, timeout):
            pass
        return self.get(job_id)

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Every event of the job with a number above ``after``, as it happens, to the last.

        A lost connection is made again and goes on after the last event that came.
        """
        return self._events(job_id, after, None)

    def jobs(self, *, status: JobStatus | str | None = None) -> Iterator[Job]:
        """Every job, newest first; the next page is asked for when it is reached."""
        cursor = None
        while True:
            page = self._perform(calls.job_page(status, cursor))
            yield from page.jobs
            cursor = page.next
            if cursor is None:
                return

    def fetch(self, job: Job) -> Generation:
        """A finished job with its pictures."""
        return Generation(job, tuple(Image(info, self.image(info)) for info in job.images))

    get = _asks(calls.get)
    cancel = _asks(calls.cancel)
    image = _asks(calls.image)
    input_image = _asks(calls.input_image)
    webhook = _asks(calls.webhook)
    replay_webhook = _asks(calls.replay_webhook)
    webhook_secret = _asks(calls.webhook_secret)
    models = _asks(calls.models)
    model = _asks(calls.model)
    catalogue = _asks(calls.catalogue)
    runtimes = _asks(calls.runtimes)
    workers = _asks(calls.workers)
    scaling = _asks(calls.scaling)
    costs = _asks(calls.costs)

    def _perform(self, call: wire.Call[T]) -> T:
        for attempt in count(1):
            outcome: httpx.Response | httpx.RequestError
            try:
                outcome = self._http.request(
                    call.method,
                    call.path,
                    params=call.params,
                    headers=call.headers,
                    content=call.content,
                )
            except httpx.RequestError as error:
                outcome = error
            verdict = call.settle(outcome, attempt=attempt, retries=self._retries)
            if isinstance(verdict, wire.Done):
                return verdict.value
            time.sleep(verdict.seconds)
        raise AssertionError  # pragma: no cover - the loop has no end

    def _events(self, job_id: str, after: int, timeout: float | None) -> Iterator[Event]:
        watch = Watch(job_id, after=after, timeout=timeout, retries=self._retries)
        while True:
            try:
                with self._http.stream(
                    "GET",
                    watch.path,
                    headers=watch.headers(),
                    timeout=httpx.Timeout(self._timeout, read=watch.read_timeout()),
                ) as response:
                    if not response.is_success:
                        response.read()
                    if watch.opened(response):
                        for piece in response.iter_bytes():
                            yield from watch.feed(piece)
                        watch.closed()
            except httpx.RequestError as error:
                watch.broke(error)
            if watch.ended:
                return
            time.sleep(watch.pause())
