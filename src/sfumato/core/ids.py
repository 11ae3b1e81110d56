"""Job ids: ULIDs in lower case, so that ids sort as jobs were made."""

from __future__ import annotations

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32


def new_job_id(now: float) -> str:
    """26 characters: 48 bits of milliseconds since the epoch, then 80 random bits."""
    value = (int(now * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
