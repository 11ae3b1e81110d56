"""Samplers and schedules by name. Their numbers live in the engine; names must be known without torch.

A sampler is the noise solver; a schedule says which noise levels it visits. Older software puts
both into one name, "DPM++ 2M Karras": such names are understood too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from sfumato.core.errors import InvalidRequest, UnknownSampler, UnknownSchedule

#: Canonical name -> every other spelling in use: A1111's labels first, then diffusers' class names.
SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "ddpm": ("DDPM", "DDPMScheduler"),
    "ddim": ("DDIM", "DDIMScheduler"),
    "euler": ("Euler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "k_euler"),
    "euler_a": ("Euler a", "EulerAncestralDiscreteScheduler", "k_euler_a", "euler ancestral"),
    "heun": ("Heun", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "k_heun"),
    "lms": ("LMS", "LMSDiscreteScheduler", "k_lms"),
    "plms": ("PLMS", "PNDMScheduler", "pndm"),
    "dpm2": ("DPM2", "KDPM2DiscreteScheduler", "k_dpm_2"),
    "dpm2_a": (
        "DPM2 a",
        "KDPM2AncestralDiscreteScheduler",
        "k_dpm_2_a",
        "k_dpm_2_ancestral",
        "dpm2 ancestral",
    ),
    "dpmpp_2s_a": ("DPM++ 2S a", "k_dpmpp_2s_a", "dpmpp_2s_ancestral", "dpm++ 2s ancestral"),
    "dpmpp_2m": ("DPM++ 2M", "DPMSolverMultistepScheduler", "k_dpmpp_2m"),
    "dpmpp_sde": ("DPM++ SDE", "DPMSolverSDEScheduler", "k_dpmpp_sde"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", "k_dpmpp_2m_sde"),
    "dpmpp_3m_sde": ("DPM++ 3M SDE", "k_dpmpp_3m_sde"),
    "unipc": ("UniPC", "UniPCMultistepScheduler", "uni_pc"),
    "lcm": ("LCM", "LCMScheduler", "FlowMatchLCMScheduler"),
    "tcd": ("TCD", "TCDScheduler"),
}

#: As above; diffusers has flags in place of names.
SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "uniform": ("Uniform", "normal", "linspace"),
    "karras": ("Karras", "use_karras_sigmas"),
    "exponential": ("Exponential", "use_exponential_sigmas"),
    "sgm_uniform": ("SGM Uniform",),
    "trailing": ("Trailing",),
    "beta": ("Beta", "use_beta_sigmas"),
    "simple": ("Simple",),
    "align_your_steps": ("Align Your Steps", "ays"),
}

#: A1111's word for the sampler's own custom.
_AUTOMATIC = "automatic"


def _fold(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_").removesuffix("=true")


def _by_spelling(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {_fold(word): name for name, words in names.items() for word in (name, *words)}


_SAMPLER_OF = _by_spelling(SAMPLERS)
_SCHEDULE_OF = _by_spelling(SCHEDULES)


def resolve_sampler(name: str, schedule: str | None = None) -> tuple[str, str | None]:
    """Canonical names of a sampler and of its schedule, from any spelling.

    Args:
        name: may end in a schedule's name, as "DPM++ 2M Karras".
        schedule: None, or "Automatic": the one in ``name``, else None, the sampler's own custom.

    Raises:
        UnknownSampler, UnknownSchedule: naming the nearest ones.
        InvalidRequest: the two name different schedules.
    """
    asked = None if schedule is None else resolve_schedule(schedule)
    folded = _fold(name)
    for sampler, named in _splits(folded):
        if sampler not in _SAMPLER_OF:
            continue
        if named is not None and asked not in (None, named):
            raise InvalidRequest(
                f"The sampler {name!r} says {named}, but schedule is {asked}.",
                field="schedule",
                accepted=f"{named}, or a sampler without a schedule in its name",
            )
        return _SAMPLER_OF[sampler], named or asked
    near = difflib.get_close_matches(folded, _SAMPLER_OF, n=3)
    raise UnknownSampler(
        f"There is no sampler {name!r}.{_hint(_SAMPLER_OF, near)}",
        field="sampler",
        accepted=list(SAMPLERS),
    )


def resolve_schedule(name: str) -> str | None:
    """Canonical name of a schedule, from any spelling; None for A1111's "Automatic".

    Raises:
        UnknownSchedule: naming the nearest ones.
    """
    folded = _fold(name)
    if folded == _AUTOMATIC:
        return None
    if folded in _SCHEDULE_OF:
        return _SCHEDULE_OF[folded]
    near = difflib.get_close_matches(folded, _SCHEDULE_OF, n=3)
    raise UnknownSchedule(
        f"There is no schedule {name!r}.{_hint(_SCHEDULE_OF, near)}",
        field="schedule",
        accepted=list(SCHEDULES),
    )


def sampler_label(name: str) -> str:
    """What A1111 calls a sampler of ours."""
    return SAMPLERS[name][0]


def schedule_label(name: str) -> str:
    """What A1111 calls a schedule of ours."""
    return SCHEDULES[name][0]


def _splits(folded: str) -> Iterator[tuple[str, str | None]]:
    """The whole as a sampler's name; then every way to read a schedule off its end."""
    yield folded, None
    for spelling, schedule in _SCHEDULE_OF.items():
        if folded.endswith(f"_{spelling}"):
            yield folded.removesuffix(f"_{spelling}"), schedule


def _hint(names: Mapping[str, str], near: list[str]) -> str:
    found = dict.fromkeys(names[spelling] for spelling in near)
    return f" Did you mean {' or '.join(found)}?" if found else ""
