"""What went wrong beneath an error of obstore's.

obstore gives most failures as one class, and its text quotes addresses with signatures and answers
with key ids; only facts picked out of it are passed on.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from enum import Enum, auto

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError


class Fault(Enum):
    """Faults that a person mends in different places."""

    MISSING_BUCKET = auto()
    MISSING_CREDENTIALS = auto()
    WRONG_CREDENTIALS = auto()
    MISSING_PERMISSION = auto()
    WRONG_REGION = auto()
    NO_CONNECTION = auto()
    FULL = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Cause:
    """``words``: short, and without secrets."""

    fault: Fault
    words: str


#: The stores' own codes, of S3, Azure and Google in turn.
_CODES = {
    "NoSuchBucket": Fault.MISSING_BUCKET,
    "InvalidBucketName": Fault.MISSING_BUCKET,
    "ContainerNotFound": Fault.MISSING_BUCKET,
    "InvalidAccessKeyId": Fault.WRONG_CREDENTIALS,
    "SignatureDoesNotMatch": Fault.WRONG_CREDENTIALS,
    "InvalidToken": Fault.WRONG_CREDENTIALS,
    "ExpiredToken": Fault.WRONG_CREDENTIALS,
    "AuthenticationFailed": Fault.WRONG_CREDENTIALS,
    "NoAuthenticationInformation": Fault.WRONG_CREDENTIALS,
    "AccessDenied": Fault.MISSING_PERMISSION,
    "AuthorizationFailure": Fault.MISSING_PERMISSION,
    "AuthorizationPermissionMismatch": Fault.MISSING_PERMISSION,
    "PermanentRedirect": Fault.WRONG_REGION,
    "AuthorizationHeaderMalformed": Fault.WRONG_REGION,
    "IllegalLocationConstraintException": Fault.WRONG_REGION,
}
_GOOGLES_MISSING_BUCKET = "The specified bucket does not exist"

#: 507: how S3-compatible stores and WebDAV say that their disks are full.
_STATUSES = {
    301: Fault.WRONG_REGION,
    401: Fault.WRONG_CREDENTIALS,
    403: Fault.MISSING_PERMISSION,
    507: Fault.FULL,
}
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_CONNECTIONS = {"Connect": "no connection", "Timeout": "no answer in time"}

#: Where the clouds' clients ask for credentials when they were given none.
_METADATA_SERVICES = ("//169.254.169.254/", "//169.254.170.", "//metadata.google.internal/")


def cause_of(error: Exception) -> Cause:
    if isinstance(error, OSError) and error.errno is not None:
        return _of_the_system(error.errno)
    text = str(error)
    if any(service in text for service in _METADATA_SERVICES) or "MissingAccount" in text:
        return Cause(Fault.MISSING_CREDENTIALS, "no credentials")
    if (told := _told_by_the_store(text)) is not None:
        return told
    if found := re.search(r"\(os error (\d+)\)|code: (\d+),", text):
        return _of_the_system(int(found[1] or found[2]))
    if found := re.search(r"^\s+status: (\d{3}),", text, re.MULTILINE):
        status = int(found[1])
        return Cause(_STATUSES.get(status, Fault.OTHER), f"HTTP status {status}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return Cause(Fault.MISSING_PERMISSION, "credentials missing or not sufficient")
    if found := re.search(r"^\s+kind: (Connect|Timeout|Interrupted|Decode)", text, re.MULTILINE):
        return Cause(Fault.NO_CONNECTION, _CONNECTIONS.get(found[1], "connection lost"))
    return Cause(Fault.OTHER, type(error).__name__)


def _told_by_the_store(text: str) -> Cause | None:
    if found := re.search(r"<Code>(\w+)</Code>|\bcode: \"(\w+)\"", text):
        code = found[1] or found[2]
        if code in _CODES:
            return Cause(_CODES[code], code)
    if _GOOGLES_MISSING_BUCKET in text:
        return Cause(Fault.MISSING_BUCKET, "no such bucket")
    return None


def _of_the_system(number: int) -> Cause:
    if number in _FULL:
        fault = Fault.FULL
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        fault = Fault.MISSING_PERMISSION
    elif number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH):
        fault = Fault.NO_CONNECTION
    else:
        fault = Fault.OTHER
    return Cause(fault, os.strerror(number))
