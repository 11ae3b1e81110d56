"""Sfumato: pictures from prompts, on GPUs that exist only while they are needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    """The clients on first use: ``import sfumato`` itself loads nothing."""
    if name in ("AsyncClient", "Client"):
        return getattr(importlib.import_module("sfumato.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
