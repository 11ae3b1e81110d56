"""Every error Sfumato raises on purpose, as one tree.

    SfumatoError
    ├── InvalidRequest          the caller can mend it
    │   ├── UnknownModel        names the near ones
    │   ├── UnknownSampler
    │   ├── UnknownSchedule
    │   ├── UnknownRuntime
    │   └── ModelRefused        a pickle, or a family this engine has no code for
    ├── NotFound                no such job, image or page
    ├── Conflict
    │   ├── IdempotencyConflict the key was used for another request
    │   ├── JobFinished         nothing left to cancel
    │   └── AttemptLost         another worker, or none, holds the job
    ├── Unauthorized            no key, or one that is wrong, expired or revoked
    ├── Forbidden               a good key that is not for this
    ├── Overloaded              admission control: come back later
    │   └── QuotaExceeded       of what one key may use
    ├── Unavailable             a part that is needed does not answer
    │   ├── StoreBusy           the database is locked by another process
    │   └── StorageFull         the disk or bucket takes no more
    ├── StartupRefused          the service must not start like this
    │   ├── PortTaken
    │   ├── DataFolderInUse
    │   └── SchemaTooNew
    └── EngineError             an attempt failed
        ├── ModelUnusable       the weights are corrupt, truncated or missing
        ├── OutOfMemory
        ├── NumericalError      the network answered with NaN
        ├── ContentBlocked      the safety checker found the picture unsafe
        ├── WorkerLost          the worker vanished and its lease ran out
        └── EngineFailure       anything else, with its own words

A class's ``code`` is stable: clients may match on it. The HTTP status of each class stands in one
table, ``sfumato.api.problems``. A message says what was wrong, what would be right, and, where the
caller might fear it, what was not lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class SfumatoError(Exception):
    """Root of the tree.

    Args:
        message: one or two sentences for a person.
        field: name of the request field or setting at fault, if one is.
        accepted: what would have been accepted, as a short phrase or a list of choices.
    """

    code: ClassVar[str] = "internal_error"
    #: Whether another attempt at the same job may end differently.
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, field: str | None = None, accepted: str | Iterable[str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.accepted: str | list[str] | None = (
            accepted if accepted is None or isinstance(accepted, str) else list(accepted)
        )

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data: ``code``, ``message`` and, where known, ``field``, ``accepted``."""
        known = {"field": self.field, "accepted": self.accepted}
        return {
            "code": self.code,
            "message": self.message,
            **{key: value for key, value in known.items() if value is not None},
        }


class InvalidRequest(SfumatoError):
    code = "invalid_request"


class UnknownModel(InvalidRequest):
    code = "unknown_model"


class UnknownSampler(InvalidRequest):
    code = "unknown_sampler"


class UnknownSchedule(InvalidRequest):
    code = "unknown_schedule"


class UnknownRuntime(InvalidRequest):
    code = "unknown_runtime"


class ModelRefused(InvalidRequest):
    code = "model_refused"


class NotFound(SfumatoError):
    code = "not_found"


class Conflict(SfumatoError):
    code = "conflict"


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class JobFinished(Conflict):
    code = "job_finished"


class AttemptLost(Conflict):
    code = "attempt_lost"


class Unauthorized(SfumatoError):
    code = "unauthorized"


class Forbidden(SfumatoError):
    code = "forbidden"


class Overloaded(SfumatoError):
    """Too much work is waiting.

    Args:
        retry_after: seconds after which it is worth trying again.
    """

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Overloaded):
    code = "quota_exceeded"


class Unavailable(SfumatoError):
    code = "unavailable"
    retryable = True


class StoreBusy(Unavailable):
    code = "store_busy"


class StorageFull(Unavailable):
    code = "storage_full"
    retryable = False


class StartupRefused(SfumatoError):
    code = "startup_refused"


class PortTaken(StartupRefused):
    code = "port_taken"


class DataFolderInUse(StartupRefused):
    code = "data_folder_in_use"


class SchemaTooNew(StartupRefused):
    code = "schema_too_new"


class EngineError(SfumatoError):
    code = "engine_error"


class ModelUnusable(EngineError):
    code = "model_unusable"


class OutOfMemory(EngineError):
    code = "out_of_memory"
    retryable = True


class NumericalError(EngineError):
    code = "numerical_error"


class ContentBlocked(EngineError):
    code = "content_blocked"


class WorkerLost(EngineError):
    code = "worker_lost"
    retryable = True


class EngineFailure(EngineError):
    code = "engine_failure"
    retryable = True
