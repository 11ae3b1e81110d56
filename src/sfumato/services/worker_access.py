"""Who may work for this service from elsewhere: worker tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Collection, Sequence

from sfumato.core.errors import (
    Forbidden,
    InvalidRequest,
    Unauthorized,
    UnknownRuntime,
)
from sfumato.core.job import AttemptOutcome, Job, JobStatus
from sfumato.core.ports import Clock, JobQueue, JobStore, WorkerToken, WorkerTokens
from sfumato.services.access import check_secret
from sfumato.services.doorbell import ring

#: How a token begins: told apart from other keys by people, and by scanners for leaked secrets.
TOKEN_PREFIX = "sfw_"  # noqa: S105 - what all of them begin with
_TOKEN_BYTES = 32
#: A token's last use is written down once in so many seconds.
_NOTE_USE_EVERY = 60.0
MAX_TOKEN_NAME = 100


class WorkerAccess:
    """Makes worker tokens, and tells whose a token is.

    A token has 256 random bits, so one SHA-256 keeps it: nobody can try them all.

    Args:
        runtimes: the names of the pools there are.
    """

    def __init__(
        self,
        *,
        tokens: WorkerTokens,
        store: JobStore,
        queue: JobQueue,
        clock: Clock,
        runtimes: Collection[str],
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._queue = queue
        self._clock = clock
        self._runtimes = runtimes
        self._noted: dict[str, float] = {}

    async def create(
        self, *, name: str, runtimes: Sequence[str], expires_in: float | None = None
    ) -> tuple[WorkerToken, str]:
        """A new token and its secret, which is told this once.

        Raises ``InvalidRequest`` or ``UnknownRuntime``.
        """
        if not (1 <= len(name) <= MAX_TOKEN_NAME and name.isprintable()):
            raise InvalidRequest(
                "A token's name tells people whose it is.",
                field="name",
                accepted=f"1 to {MAX_TOKEN_NAME} printable characters",
            )
        for runtime in runtimes:
            if runtime not in self._runtimes:
                raise UnknownRuntime(
                    f"There is no runtime {runtime!r}.",
                    field="runtime",
                    accepted=sorted(self._runtimes),
                )
        now = self._clock.now()
        secret = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        token = WorkerToken(
            id=secrets.token_hex(6),
            name=name,
            digest=_digest(secret),
            runtimes=tuple(dict.fromkeys(runtimes)),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        await self._tokens.create(token)
        return token, secret

    async def keep(self, secret: str, *, name: str) -> None:
        """Let in, for every runtime, workers that show a secret that was made elsewhere; one that
        was revoked stays so.

        Raises ``InvalidRequest``, which does not quote it.
        """
        check_secret(secret, TOKEN_PREFIX)
        token = WorkerToken(
            id=secrets.token_hex(6),
            name=name,
            digest=_digest(secret),
            runtimes=tuple(self._runtimes),
            created_at=self._clock.now(),
        )
        await self._tokens.keep(token)

    async def list(self) -> Sequence[WorkerToken]:
        """Every token, oldest first."""
        return await self._tokens.list()

    async def authenticate(self, secret: str, *, runtime: str | None = None) -> WorkerToken:
        """The token that a caller shows; looked up anew each time, so that a revoked one is
        refused at its next call.

        Raises:
            Unauthorized: it is not known, has expired, or was revoked.
            Forbidden: it is not for that runtime.
        """
        digest = _digest(secret)
        token = await self._tokens.find(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            raise Unauthorized("This worker token is not known here; `sfumato tokens` makes them.")
        now = self._clock.now()
        if token.revoked_at is not None:
            raise Unauthorized("This worker token was revoked. Ask the service's operator for one.")
        if token.expires_at is not None and token.expires_at <= now:
            raise Unauthorized("This worker token has expired. Ask the service's operator for one.")
        if runtime is not None and runtime not in token.runtimes:
            raise Forbidden(
                f"This worker token is not for the runtime {runtime[:64]!r}.",
                field="runtime",
                accepted=token.runtimes,
            )
        if now - self._noted.get(token.id, 0.0) >= _NOTE_USE_EVERY:
            self._noted[token.id] = now
            await self._tokens.note_use(token.id, now=now)
        return token

    async def revoke(self, token_id: str) -> WorkerToken:
        """Refuse it from its next call on, and queue again what its workers hold.

        Raises ``NotFound``.
        """
        now = self._clock.now()
        token = await self._tokens.revoke(token_id, now=now)
        async for job in self._held_with(token):
            released = await self._store.requeue(
                job.id,
                job.attempt,
                outcome=AttemptOutcome.RELEASED,
                reason="the token of its worker was revoked",
                now=now,
                checkpoint=job.checkpoint,
            )
            if released:
                await ring(job, store=self._store, queue=self._queue)
        return token

    async def _held_with(self, token: WorkerToken) -> AsyncIterator[Job]:
        cursor = None
        while True:
            page = await self._store.list(status=JobStatus.RUNNING, limit=200, cursor=cursor)
            for job in page.jobs:
                if (job.worker or "").startswith(worker_name(token, "")):
                    yield job
            if page.cursor is None:
                return
            cursor = page.cursor


def worker_name(token: WorkerToken, name: str) -> str:
    """What a worker is called here that calls itself ``name``: no token can name another's."""
    return f"{token.id}/{name}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
