"""Where a page of jobs ended, as an opaque text."""

from __future__ import annotations

import base64
import binascii

from sfumato.core.errors import InvalidRequest


def encode_cursor(created_at: float, job_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at!r} {job_id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Raises ``InvalidRequest`` for a text that :func:`encode_cursor` did not make."""
    try:
        created_at, job_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return float(created_at), job_id
    except (ValueError, binascii.Error):
        raise InvalidRequest(
            "cursor is not one that this API gave out.",
            field="cursor",
            accepted="the cursor of an earlier page",
        ) from None
