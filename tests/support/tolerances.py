"""How near two float32 latents are that should be the same."""

from __future__ import annotations

#: One picture, alone and in company: the same kernels, other shapes.
SAME = 1e-4
#: One picture, drawn by us and by diffusers: rounding grows over the steps, by the processor's kind.
#: A wrong coefficient, or a row that is not its own, is off by a hundred times as much.
AS_DIFFUSERS = 1e-3
