"""Whatever torch, diffusers or Pillow raise, as an error of our tree."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import torch

from sfumato.core.errors import EngineError, EngineFailure, InvalidRequest, OutOfMemory
from sfumato.engine.memory import free_unused


@contextlib.contextmanager
def failures(doing: str, kind: type[EngineError] = EngineFailure) -> Iterator[None]:
    """The block's failures as ``kind``, if not memory was what lacked.

    Args:
        doing: what the block does, for the message.
    """
    try:
        yield
    except (EngineError, InvalidRequest):
        raise
    except Exception as error:  # the libraries raise kinds of their own
        if _is_lack_of_memory(error):
            # What the frames of the failure hold would be missing when fewer rows are tried.
            traceback.clear_frames(error.__traceback__)
            free_unused()
            raise OutOfMemory(
                f"There was not enough memory to {doing}. A smaller picture, or a device with more "
                "memory, would help."
            ) from error
        raise kind(f"The engine could not {doing}: {error}") from error


def _is_lack_of_memory(error: Exception) -> bool:
    # torch's CPU allocator has no class for it, and words of its own for each system.
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )
