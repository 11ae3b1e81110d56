"""Looking into pictures' files, for the command line: the engine's part that needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.core.errors import StartupRefused
from sfumato.core.exactness import Difference

if TYPE_CHECKING:
    from sfumato.core.recipe import Recipe


def recipe_of(data: bytes, *, name: str) -> Recipe:
    """See :func:`sfumato.engine.comparing.recipe_of`. Raises ``StartupRefused`` without Pillow."""
    _check_installed()
    from sfumato.engine import comparing  # noqa: PLC0415 - Pillow, for this command alone

    return comparing.recipe_of(data, name=name)


def compare(first: bytes, second: bytes, *, name: str) -> Difference | None:
    """See :func:`sfumato.engine.comparing.compare`."""
    from sfumato.engine import comparing  # noqa: PLC0415 - as above

    return comparing.compare(first, second, name=name)


def _check_installed() -> None:
    try:
        import PIL  # noqa: F401, PLC0415 - it comes with the engine
    except ImportError:
        raise StartupRefused(
            "Pictures can't be read here, since Pillow is not installed. Install sfumato[engine]."
        ) from None
