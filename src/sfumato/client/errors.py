"""Every error that the client raises on purpose, as one tree.

    ClientError
    ├── Unreachable        nobody answers at the address, or the connection broke
    ├── UnexpectedAnswer   somebody answers, but not a Sfumato service
    ├── InvalidRequest     400, 413, 415, 422: the request can be mended; see ``field``, ``accepted``
    ├── Unauthorized       401: no key, or one that is wrong, expired or revoked
    ├── Forbidden          403: the key is good, but not for this
    ├── NotFound           404
    ├── Conflict           409: the job has finished, or the idempotency key was used otherwise
    ├── Overloaded         429, 503: come back after ``retry_after`` seconds
    ├── ServiceFailed      any other error status
    ├── JobFailed          the job ended with an error, which ``code`` names
    │   └── JobCanceled    it was taken back
    └── WaitTimeout        the job had not finished in time; it goes on

``code`` is stable and comes from the service: see :mod:`sfumato.core.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.client.results import Job


class ClientError(Exception):
    """Root of the tree.

    Attributes:
        message: one or two sentences for a person.
        code: what went wrong, as a stable word.
        status: of the HTTP answer; None when there was none.
        field: the request field at fault, if one is.
        accepted: what would have been accepted: a phrase, or a list of choices.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        field: str | None = None,
        accepted: str | list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.field = field
        self.accepted = accepted


class Unreachable(ClientError):
    pass


class UnexpectedAnswer(ClientError):
    pass


class InvalidRequest(ClientError):
    pass


class Unauthorized(ClientError):
    pass


class Forbidden(ClientError):
    pass


class NotFound(ClientError):
    pass


class Conflict(ClientError):
    pass


class ServiceFailed(ClientError):
    pass


class Overloaded(ClientError):
    """``retry_after``: seconds after which it is worth trying again; None when it was not told."""

    retry_after: float | None = None


class JobFailed(ClientError):
    """``job``: as it ended, with the seed and what was used."""

    def __init__(self, message: str, *, code: str, job: Job) -> None:
        super().__init__(message, code=code)
        self.job = job


class JobCanceled(JobFailed):
    pass


class WaitTimeout(ClientError, TimeoutError):
    """``job_id``: pass it to ``wait`` again, or to ``cancel``."""

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(
            f"Job {job_id} has not finished within {seconds:g} seconds. It goes on: "
            "wait for it again, or cancel it.",
            code="wait_timeout",
        )
        self.job_id = job_id
