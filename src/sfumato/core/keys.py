"""Who calls, and what he may do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from sfumato.core.errors import Forbidden
from sfumato.core.webhooks import Webhook


class Scope(StrEnum):
    """What a key allows."""

    GENERATE = "generate"  #: make jobs
    READ_OWN = "read-own"  #: see and take back its own jobs
    READ_ALL = "read-all"  #: see everybody's jobs, the workers and the scaling figures
    SCALING = "scaling"  #: see the scaling figures, and nothing else: for an autoscaler
    MODELS = "models"  #: add models and take them away
    ADMIN = "admin"  #: everything, keys included


#: Ready choices of scopes. ``viewer`` mirrors a cluster role that may look at everything and read no
#: secret: no key, token or webhook secret is ever shown to anybody.
ROLES: dict[str, frozenset[Scope]] = {
    "user": frozenset({Scope.GENERATE, Scope.READ_OWN}),
    "viewer": frozenset({Scope.READ_ALL}),
    "operator": frozenset({Scope.GENERATE, Scope.READ_OWN, Scope.READ_ALL, Scope.MODELS}),
    "admin": frozenset({Scope.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may use. None: no limit of its own.

    Attributes:
        rate: jobs a second, on the long run.
        burst: jobs at once beyond the rate; at least 1.
        concurrency: jobs that wait or run.
        daily_images: pictures asked for since midnight UTC.
        daily_gpu_seconds: seconds that a device was busy with the jobs made since midnight UTC.
    """

    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None
    daily_images: int | None = None
    daily_gpu_seconds: float | None = None


#: What the AWS guidance's usage plan gave each of its keys.
GUIDANCE_LIMITS = KeyLimits(rate=10.0, burst=2)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: never the key itself.

    Attributes:
        id: public; the owner of the jobs that the key makes.
        digest: SHA-256 of the key, in hex.
        models, runtimes: the names that it may use; empty: every one.
        webhook: for its jobs that name none.
        expires_at: None: never.
        used_at: when it was last used, to within a minute.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None
    models: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    limits: KeyLimits = field(default_factory=KeyLimits)
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a key has used."""

    open_jobs: int = 0
    images: int = 0
    gpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. Without a key, as on a laptop, everything is his.

    Attributes:
        key: None: nobody asked for one.
    """

    key: ApiKey | None = None

    @property
    def id(self) -> str | None:
        """The owner of the jobs that he makes."""
        return None if self.key is None else self.key.id

    def may(self, scope: Scope) -> bool:
        return self.key is None or not self.key.scopes.isdisjoint({scope, Scope.ADMIN})

    def check(self, scope: Scope) -> None:
        """Raises ``Forbidden``."""
        if not self.may(scope):
            assert self.key is not None
            raise Forbidden(
                f"This key lacks the scope {scope.value!r}; it has "
                f"{', '.join(sorted(self.key.scopes)) or 'none'}.",
            )

    def may_see(self, owner: str | None) -> bool:
        """Whether he may see jobs of that owner."""
        return self.may(Scope.READ_ALL) or (self.may(Scope.READ_OWN) and owner == self.id)

    def scoped(self, idempotency_key: str) -> str:
        """One caller's idempotency keys say nothing about another's."""
        if self.id is None:
            return idempotency_key
        return hashlib.sha256(f"{self.id} {idempotency_key}".encode()).hexdigest()

    def check_change(self, owner: str | None) -> None:
        """For taking back or queueing again a job of that owner.

        Raises ``Forbidden``: it is another's, and looking at it is all that the key allows.
        """
        if not (self.may(Scope.ADMIN) or (self.may(Scope.READ_OWN) and owner == self.id)):
            raise Forbidden("This key may look at others' jobs, but not change them.")

    def check_use(self, *, model: str, runtime: str) -> None:
        """Raises ``Forbidden`` for a model or a runtime that the key is not for."""
        if self.key is None:
            return
        for field_name, name, allowed in (
            ("model", model, self.key.models),
            ("runtime", runtime, self.key.runtimes),
        ):
            if allowed and name not in allowed:
                raise Forbidden(
                    f"This key is not for the {field_name} {name!r}.",
                    field=field_name,
                    accepted=allowed,
                )


#: Who needs no key: the operator's own commands, and callers of a service that asks for none.
TRUSTED = Caller()
