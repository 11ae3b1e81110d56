"""Sfumato: pictures from prompts, on GPUs that exist only while they are needed.

The clients come on first use, so that ``import sfumato`` itself loads nothing. Type checkers read
``__init__.pyi``, which names them outright; here they would tie every module that asks for the
version to the client.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        return getattr(importlib.import_module("sfumato.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
