"""Wire APIs that other software already speaks, each a translation to the one job model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter

from sfumato.api.dialects import generate
from sfumato.api.problems import Form


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of them.

    Attributes:
        forms: what its errors look like, by how their paths begin; of other paths they are
            problems, as in the native API.
    """

    router: APIRouter
    forms: Mapping[str, Form] = field(default_factory=dict)


DIALECTS = (Dialect(generate.router),)
