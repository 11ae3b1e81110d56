"""The samplers that there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sfumato.core.samplers import resolve_sampler
from sfumato.engine.samplers import consistency, euler, multistep, second_order, unipc
from sfumato.engine.samplers.tables import Evaluation, SamplerTable
from sfumato.engine.schedules import NoiseSchedule


class _Solver(NamedTuple):
    """How a sampler is built.

    Attributes:
        build: its evaluations, for a number of steps, a schedule's name, and how many of its levels
            are left out at the start.
        scaled: begins at the first level's noise rate, not at unit noise.
        follows: takes the schedule that a model's config names; diffusers' others do not.
    """

    build: Callable[[NoiseSchedule, int, str, int], list[Evaluation]]
    scaled: bool = False
    follows: bool = True


_SOLVERS = {
    "ddpm": _Solver(euler.ddpm, follows=False),
    "ddim": _Solver(euler.ddim, follows=False),
    "euler": _Solver(euler.euler, scaled=True),
    "euler_a": _Solver(euler.euler_a, scaled=True, follows=False),
    "heun": _Solver(second_order.heun, scaled=True),
    "lms": _Solver(multistep.lms, scaled=True),
    "plms": _Solver(multistep.plms, follows=False),
    "dpm2": _Solver(second_order.dpm2, scaled=True),
    "dpm2_a": _Solver(second_order.dpm2_a, scaled=True),
    "dpmpp_2s_a": _Solver(second_order.dpmpp_2s_a, scaled=True),
    "dpmpp_2m": _Solver(multistep.dpmpp_2m),
    "dpmpp_sde": _Solver(second_order.dpmpp_sde, scaled=True),
    "dpmpp_2m_sde": _Solver(multistep.dpmpp_2m_sde),
    "dpmpp_3m_sde": _Solver(multistep.dpmpp_3m_sde),
    "unipc": _Solver(unipc.unipc),
    "lcm": _Solver(consistency.lcm, follows=False),
    "tcd": _Solver(consistency.tcd, follows=False),
}


@lru_cache(maxsize=1024)
def table_for(
    sampler: str,
    steps: int,
    schedule: NoiseSchedule,
    spacing: str | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> SamplerTable:
    """The table of ``sampler`` for ``steps`` steps of a model of this noise schedule.

    Args:
        spacing: a name of :data:`sfumato.core.samplers.SCHEDULES`; None: the sampler's own custom,
            which is the model's own schedule.
        start: how many of the steps are left out at the start, below ``steps``: the latents then
            begin with less noise. Solvers that look back have nothing to look back on, as
            diffusers' have after ``set_begin_index``.
        stop: after how many of the steps, those left out among them, it ends, for another model
            to go on; None: at the last.

    Raises:
        UnknownSampler, UnknownSchedule: there is no such.
    """
    name, spacing = resolve_sampler(sampler, spacing)
    solver = _SOLVERS[name]
    if spacing is None:
        spacing = schedule.default_schedule if solver.follows else "uniform"
    evaluations = solver.build(schedule, steps, spacing, start)
    rows = len(evaluations) if stop is None else _rows(evaluations, stop - start)
    scaled = solver.scaled and schedule.begins_scaled
    return SamplerTable.of(evaluations, evaluations[0].at.sigma if scaled else 1.0, rows)


def _rows(evaluations: Sequence[Evaluation], steps: int) -> int:
    """How many evaluations the first ``steps`` steps take."""
    ends = [row for row, evaluation in enumerate(evaluations, 1) if not evaluation.midway]
    return ends[steps - 1]
