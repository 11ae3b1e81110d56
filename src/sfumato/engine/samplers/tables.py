"""A sampler as a table, and its rows applied to a mixed batch.

The latents are kept in the network's own space, so that it takes them as they are. A row does::

    estimate  = a₁ · latents + a₂ · network(latents, timestep)
    following = b · (latents, saved, estimate, earlier₁, earlier₂, earlier₃, noise)
    saved'    = c · (latents, saved, estimate, earlier₁, earlier₂, earlier₃)

where ``estimate`` is what a solver remembers of an evaluation (mostly its guess of the finished
latents), ``earlier`` are the estimates before, newest first, and ``saved`` is what a solver of several
evaluations a step comes back to. Built in float64, stored and applied in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sfumato.engine.schedules import Array, Level, Prediction

#: The unit vectors that a solver's formula is written with; what it adds up to is a row.
LATENTS, SAVED, ESTIMATE, EARLIER_1, EARLIER_2, EARLIER_3, NOISE = np.eye(7)

#: Where the three combinations lie in a row, after the timestep.
_ESTIMATE, _FOLLOWING, _SAVED = slice(1, 3), slice(3, 10), slice(10, 16)
_UNCHANGED = SAVED


@dataclass(frozen=True)
class Estimate:
    """What is remembered of an evaluation: ``latents`` and ``output`` are its coefficients."""

    latents: float
    output: float


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the network and where it leads, in float64.

    Attributes:
        at: the noise level of the latents that the network is given.
        to: the noise level that they are brought to.
        following, saved: combinations of the unit vectors above.
        glimpse: the finished latents as guessed afterwards, from ``LATENTS`` and ``ESTIMATE``.
        midway: whether a step of several evaluations goes on after it.
    """

    at: Level
    to: Level
    estimate: Estimate
    following: Array
    saved: Array = field(default_factory=lambda: _UNCHANGED)
    glimpse: Array = field(default_factory=lambda: ESTIMATE)
    midway: bool = False


class Mixture(NamedTuple):
    """How noisy latents are: ``signal · x_0 + noise · unit noise``, in the network's own space."""

    signal: float
    noise: float


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """What one sampler does in each of its evaluations.

    Attributes:
        initial_scale: of the unit noise that the latents begin as.
        begins: what a picture is mixed to that is begun with in place of noise alone.
        reached: for each row, what the latents are mixed as afterwards, the picture itself after
            the last; None within a step.
        rows: float32 vectors: the timestep, then the coefficients.
        used: for each row, which of its numbers are not 0.
        saves: for each row, whether it changes what is saved.
        glimpses: for each row, the guess of the finished latents afterwards, as factors of the
            latents and of the estimate.
        memory: how many estimates are to be kept, at least 1.
    """

    initial_scale: float
    begins: Mixture
    reached: tuple[Mixture | None, ...]
    rows: tuple[Tensor, ...]
    used: Array
    saves: tuple[bool, ...]
    glimpses: tuple[tuple[float, float], ...]
    memory: int

    def __len__(self) -> int:
        return len(self.rows)

    def timestep(self, row: int) -> float:
        return float(self.rows[row][0])

    def noisy(self, row: int) -> bool:
        """Whether the evaluation draws fresh noise."""
        return bool(self.used[row, _FOLLOWING][-1])

    @classmethod
    def of(
        cls, evaluations: Sequence[Evaluation], initial_scale: float, rows: int | None = None
    ) -> SamplerTable:
        """Args:
        rows: how many of the evaluations to take, from the first; None: all.
        """
        whole = len(evaluations)
        evaluations = evaluations[:rows]
        numbers = np.array(
            [
                [
                    step.at.timestep,
                    step.estimate.latents,
                    step.estimate.output,
                    *step.following,
                    *step.saved[:-1],
                ]
                for step in evaluations
            ]
        )
        used = numbers != 0
        looks_back = used[:, 6:9] | used[:, 13:16]
        deepest = max((n + 1 for n in range(3) if looks_back[:, n].any()), default=1)
        return cls(
            initial_scale=initial_scale,
            begins=Mixture(evaluations[0].at.alpha, evaluations[0].at.sigma),
            reached=tuple(
                _reached(step, last=row == whole) for row, step in enumerate(evaluations, 1)
            ),
            rows=torch.from_numpy(numbers).float().unbind(),
            used=used,
            saves=tuple(step.saved is not _UNCHANGED for step in evaluations),
            glimpses=tuple((step.glimpse[0], step.glimpse[2]) for step in evaluations),
            memory=deepest,
        )


def _reached(step: Evaluation, *, last: bool) -> Mixture | None:
    if last:
        return Mixture(1.0, 0.0)
    return None if step.midway else Mixture(step.to.alpha, step.to.sigma)


@dataclass(frozen=True)
class Coefficients:
    """The rows of a batch's slots for their next evaluation.

    Attributes:
        timesteps: float32 (n,), for the network.
        columns: every coefficient's column, (n, 1, 1, 1); None where it is 0 for every slot.
        saves: whether any slot changes what it saved.
    """

    timesteps: Tensor
    columns: tuple[Tensor | None, ...]
    saves: bool

    @classmethod
    def gather(
        cls, places: Iterable[tuple[SamplerTable, int]], device: torch.device | str = "cpu"
    ) -> Coefficients:
        """From each slot's table and its place in it."""
        found = list(places)
        stacked = torch.stack([table.rows[row] for table, row in found]).to(device)
        used = np.logical_or.reduce([table.used[row] for table, row in found]).tolist()
        columns = stacked[:, :, None, None, None].unbind(1)
        return cls(
            stacked[:, 0],
            tuple(column if needed else None for column, needed in zip(columns, used, strict=True)),
            any(table.saves[row] for table, row in found),
        )


@dataclass(frozen=True)
class State:
    """What a sampler holds between evaluations, of one slot or stacked for a batch.

    Attributes:
        latents: float32.
        saved: None where no sampler has saved any yet.
        estimates: newest first; after the first evaluation never empty.
    """

    latents: Tensor
    saved: Tensor | None = None
    estimates: tuple[Tensor, ...] = ()


def advance(
    state: State, output: Tensor, noise: Tensor | None, coefficients: Coefficients, memory: int
) -> State:
    """One evaluation's step of a mixed batch.

    Args:
        state: every tensor of shape (n, channels, height, width).
        output: what the network answered.
        noise: None where no slot draws any.
        memory: how many estimates to keep.
    """
    estimate = _combine(coefficients.columns[_ESTIMATE], (state.latents, output))
    earlier = [*state.estimates[:3], *[None] * (3 - len(state.estimates))]
    terms = (state.latents, state.saved, estimate, *earlier)
    following = _combine(coefficients.columns[_FOLLOWING], (*terms, noise))
    saved = state.saved
    if coefficients.saves:
        saved = _combine(coefficients.columns[_SAVED], terms)
    return State(following, saved, (estimate, *state.estimates)[:memory])


def _combine(columns: Sequence[Tensor | None], terms: Sequence[Tensor | None]) -> Tensor:
    """The sum of the terms that have both a coefficient and a value."""
    total = None
    for column, term in zip(columns, terms, strict=True):
        if column is None or term is None:
            continue
        total = column * term if total is None else total.addcmul_(column, term)
    if total is None:  # no solver ends in nothing
        raise ValueError("A row of a sampler's table has no coefficient that applies.")
    return total


def denoised(prediction: Prediction, level: Level) -> Estimate:
    """How the guess of the finished latents follows from the latents and the network's output."""
    if prediction == "epsilon":
        return Estimate(1 / level.alpha, -level.sigma / level.alpha)
    if prediction == "v_prediction":
        return Estimate(level.alpha, -level.sigma)
    if prediction == "flow_prediction":
        return Estimate(1.0, -level.sigma)
    return Estimate(0.0, 1.0)
