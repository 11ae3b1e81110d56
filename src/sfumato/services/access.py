"""Who may call: keys, what they allow, and what they may use."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sfumato.core.errors import InvalidRequest, Overloaded, QuotaExceeded, Unauthorized
from sfumato.core.keys import ApiKey, Caller, KeyLimits, Scope
from sfumato.core.ports import ApiKeys, Clock, JobStore
from sfumato.core.webhooks import Webhook

#: How a key begins: told apart from other secrets by people, and by scanners for leaked ones.
KEY_PREFIX = "sfk_"
_KEY_BYTES = 32
#: What follows the beginning: as long as ours, or longer.
_RANDOM_PART = r"[A-Za-z0-9_-]{40,200}"
#: A key's last use is written down once in so many seconds.
_NOTE_USE_EVERY = 60.0
MAX_KEY_NAME = 100
_DAY = 86_400.0


class Access:
    """Makes keys, and tells whose a key is.

    A key has 256 random bits, so one SHA-256 keeps it: nobody can try them all.
    """

    def __init__(self, *, keys: ApiKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._noted: dict[str, float] = {}

    async def create(
        self,
        *,
        name: str,
        scopes: Iterable[Scope],
        expires_in: float | None = None,
        models: Iterable[str] = (),
        runtimes: Iterable[str] = (),
        limits: KeyLimits | None = None,
        webhook: Webhook | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which is told this once.

        Args:
            expires_in: seconds.

        Raises:
            InvalidRequest: naming the field.
        """
        if not (1 <= len(name) <= MAX_KEY_NAME and name.isprintable()):
            raise InvalidRequest(
                "A key's name tells people whose it is.",
                field="name",
                accepted=f"1 to {MAX_KEY_NAME} printable characters",
            )
        limits = limits or KeyLimits()
        _check(limits)
        now = self._clock.now()
        secret = _new_secret()
        key = ApiKey(
            id=secrets.token_hex(6),
            name=name,
            digest=_digest(secret),
            scopes=frozenset(scopes),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            models=tuple(dict.fromkeys(models)),
            runtimes=tuple(dict.fromkeys(runtimes)),
            limits=limits,
            webhook=webhook,
        )
        await self._keys.create(key)
        return key, secret

    async def keep(self, secret: str, *, name: str, scopes: Iterable[Scope]) -> None:
        """Let in whoever shows a secret that was made elsewhere; one that is known stays as it is,
        revoked where it was revoked.

        Raises ``InvalidRequest``, which does not quote it.
        """
        check_secret(secret, KEY_PREFIX)
        key = ApiKey(
            id=secrets.token_hex(6),
            name=name,
            digest=_digest(secret),
            scopes=frozenset(scopes),
            created_at=self._clock.now(),
        )
        await self._keys.keep(key)

    async def list(self) -> Sequence[ApiKey]:
        """Every key, oldest first."""
        return await self._keys.list()

    async def revoke(self, key_id: str) -> ApiKey:
        """Refuse it from its next call on; its jobs go on. Raises ``NotFound``."""
        return await self._keys.revoke(key_id, now=self._clock.now())

    async def rotate(self, key_id: str) -> tuple[ApiKey, str]:
        """The same key with a new secret; the old one is refused from its next call on.

        Raises ``NotFound``.
        """
        secret = _new_secret()
        return await self._keys.replace(key_id, digest=_digest(secret)), secret

    async def authenticate(self, secret: str) -> Caller:
        """Whose key a caller shows; looked up anew each time, so that a revoked one is refused at
        its next call.

        Raises:
            Unauthorized: it is not known, has expired, or was revoked.
        """
        digest = _digest(secret)
        key = await self._keys.find(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise Unauthorized("This key is not known here; `sfumato keys create` makes one.")
        now = self._clock.now()
        if key.revoked_at is not None:
            raise Unauthorized("This key was revoked. Ask the service's operator for another.")
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized("This key has expired. Ask the service's operator for another.")
        if now - self._noted.get(key.id, 0.0) >= _NOTE_USE_EVERY:
            self._noted[key.id] = now
            await self._keys.note_use(key.id, now=now)
        return Caller(key)


@dataclass(slots=True)
class _Bucket:
    """A token bucket: how many jobs may be made at once, as of a moment."""

    tokens: float
    at: float


class Quotas:
    """Holds callers to their keys' limits.

    Rate and burst hold for each process of the service on its own; what is counted over a day and
    what is open at once is asked of the store, and so holds for all of them together, but for
    jobs that two processes admit in the same instant.
    """

    def __init__(self, *, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def admitting(self, caller: Caller, *, images: int) -> AsyncGenerator[None]:
        """The block makes a job of so many images. Jobs of one key are made one after another, so
        that two at once can't pass for one.

        Raises:
            Overloaded: faster than the key's rate.
            QuotaExceeded: more than it may have at once, or in a day.
        """
        key = caller.key
        if key is None or key.limits == KeyLimits():
            yield
            return
        async with self._turns[key.id]:
            await self._check_usage(key, images)
            self._take_token(key)
            yield

    async def _check_usage(self, key: ApiKey, images: int) -> None:
        limits = key.limits
        if (limits.concurrency, limits.daily_images, limits.daily_gpu_seconds) == (None,) * 3:
            return
        now = self._clock.now()
        midnight = now - now % _DAY
        used = await self._store.usage(key.id, since=midnight)
        if limits.concurrency is not None and used.open_jobs >= limits.concurrency:
            raise QuotaExceeded(
                f"{used.open_jobs} jobs of this key wait or run, which is as many as it may have. "
                "They are kept; come back when one has ended.",
                retry_after=1.0,
            )
        tomorrow = midnight + _DAY - now
        if limits.daily_images is not None and used.images + images > limits.daily_images:
            raise QuotaExceeded(
                f"This key has asked for {used.images} of its {limits.daily_images} images a day; "
                f"{images} more do not fit. The day ends at midnight UTC.",
                retry_after=tomorrow,
            )
        if limits.daily_gpu_seconds is not None and used.gpu_seconds >= limits.daily_gpu_seconds:
            raise QuotaExceeded(
                f"This key has used {used.gpu_seconds:.0f} of its {limits.daily_gpu_seconds:g} GPU "
                "seconds a day. The day ends at midnight UTC.",
                retry_after=tomorrow,
            )

    def _take_token(self, key: ApiKey) -> None:
        rate, most = key.limits.rate, float(max(1, key.limits.burst))
        if rate is None:
            return
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(key.id, _Bucket(most, now))
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise Overloaded(
                f"This key may make {rate:g} jobs a second, {most:g} at once.",
                retry_after=(1 - bucket.tokens) / rate,
            )
        bucket.tokens -= 1


def _check(limits: KeyLimits) -> None:
    for name in ("rate", "concurrency", "daily_images", "daily_gpu_seconds"):
        value = getattr(limits, name)
        if value is not None and not value > 0:
            raise InvalidRequest(f"{name} is {value}.", field=name, accepted="a number above 0")
    if limits.burst < 1:
        raise InvalidRequest(f"burst is {limits.burst}.", field="burst", accepted="at least 1")


def check_secret(secret: str, prefix: str) -> None:
    """Raises ``InvalidRequest`` for a secret that could be guessed, or is none of ours."""
    if re.fullmatch(re.escape(prefix) + _RANDOM_PART, secret) is None:
        raise InvalidRequest(
            "A secret from elsewhere must be as good as one of ours. This one is not repeated here.",
            accepted=f"{prefix} and 40 to 200 random letters, digits, - and _",
        )


def _new_secret() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
