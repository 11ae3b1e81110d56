"""The samplers by name. Their coefficients live in the engine; names must be known without torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from sfumato.core.errors import UnknownSampler

#: Canonical name -> every other spelling in use: A1111's labels and diffusers' class names.
SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "euler": ("Euler", "EulerDiscreteScheduler", "k_euler"),
    "euler_a": ("Euler a", "EulerAncestralDiscreteScheduler", "k_euler_a", "euler ancestral"),
    "ddim": ("DDIM", "DDIMScheduler"),
    "dpmpp_2m": ("DPM++ 2M", "DPMSolverMultistepScheduler", "k_dpmpp_2m", "dpm++ 2m"),
    "lcm": ("LCM", "LCMScheduler"),
}


def _fold(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


_BY_SPELLING = {
    _fold(spelling): name for name, spellings in SAMPLERS.items() for spelling in (name, *spellings)
}


def resolve_sampler(name: str) -> str:
    """Canonical name of a sampler, from any spelling.

    Raises:
        UnknownSampler: naming the nearest ones.
    """
    found = _BY_SPELLING.get(_fold(name))
    if found is not None:
        return found
    near = [_BY_SPELLING[m] for m in difflib.get_close_matches(_fold(name), _BY_SPELLING, n=3)]
    hint = f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    raise UnknownSampler(
        f"There is no sampler {name!r}.{hint}", field="sampler", accepted=list(SAMPLERS)
    )
