"""Whose request it is: every way in which clients send a key."""

from __future__ import annotations

import base64
import binascii

from fastapi import Request

from sfumato.core.errors import Unauthorized
from sfumato.core.keys import TRUSTED, Caller
from sfumato.services.access import KEY_PREFIX, Access

#: What a caller without a key is told.
_HOW = (
    "This service needs a key, as `Authorization: Bearer sfk_…`, `x-api-key`, `apikey`, or as the "
    "password of HTTP Basic. Its operator makes one with `sfumato keys create`."
)


async def caller_of(request: Request, access: Access, *, required: bool) -> Caller:
    """Who calls.

    Where no key is required, clients that must send something may send anything: only what looks
    like a key of ours is looked up, so that a mistyped or revoked one does not pass for none.

    Raises:
        Unauthorized: there is no key, or it is not good.
    """
    secret = shown_key(request)
    if secret is None:
        if required:
            raise Unauthorized(_HOW)
        return TRUSTED
    if not required and not secret.startswith(KEY_PREFIX):
        return TRUSTED
    return await access.authenticate(secret)


def shown_key(request: Request) -> str | None:
    """The key that a request shows; None: it shows none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() in ("bearer", "token", "key") and value:
        return value
    if scheme.lower() == "basic":
        return _password(value)
    return request.headers.get("x-api-key") or request.headers.get("apikey") or None


def _password(value: str) -> str | None:
    """Of HTTP Basic; its user's name says nothing here, unless it is all there is."""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password or user or None
