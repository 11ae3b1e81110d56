"""One picture inside the running batch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from sfumato.core.errors import EngineError, InvalidRequest
from sfumato.core.ports import ImageTask
from sfumato.engine.conditioning import Conditioning
from sfumato.engine.finishing import Finishing
from sfumato.engine.samplers import SamplerTable, State
from sfumato.engine.stages import BatchKey, Beginning, Stage


@dataclass(slots=True, eq=False, repr=False)
class DiffusionSlot:
    """A slot of :class:`sfumato.engine.engine.DiffusionEngine`.

    Attributes:
        stages: at least one; they are taken in order.
        generator: the slot's own source of noise.
        began: what its stage began with.
        state: what the sampler holds; its tensors are float32 (channels, height, width).
        failed_at: float32 scalar: the first step whose latents were not finite; 0 for none.
            A tensor, so that watching for it never makes the device wait.
        stage_index: of the stage that it is in, from 0.
        step: steps done, of all stages together.
        well: its last state without a number that is not finite, as of :func:`sfumato.engine.checkpoints.export_slot`.
        retried: whether it had such numbers, and went back to float32 for that once.
        seen: what the stage before had drawn, for a preview of this one's beginning.
        finishing: what becomes of it once it is decoded.
        error: what kept it from its next stage; its steps then count as done.
    """

    task: ImageTask
    stages: tuple[Stage, ...]
    generator: torch.Generator
    began: Beginning
    state: State
    failed_at: Tensor
    stage_index: int = 0
    step: int = 0
    notes: tuple[str, ...] = field(default=())
    well: bytes | None = None
    retried: bool = False
    seen: Tensor | None = None
    finishing: Finishing = field(default_factory=Finishing)
    error: EngineError | InvalidRequest | None = None

    @classmethod
    def beginning(
        cls,
        task: ImageTask,
        stages: tuple[Stage, ...],
        generator: torch.Generator,
        began: Beginning,
    ) -> DiffusionSlot:
        """A slot before its first step."""
        state, failed_at = State(began.latents), began.latents.new_zeros(())
        return cls(task, stages, generator, began, state, failed_at)

    def enter_next(self, began: Beginning) -> None:
        """Go on to the next stage."""
        self.seen = self.denoised
        self.stage_index += 1
        self.began, self.state = began, State(began.latents)

    def fail(self, error: EngineError | InvalidRequest) -> None:
        """End here; nobody but this slot is concerned."""
        self.error, self.step = error, self.steps

    def become(self, fresh: DiffusionSlot, notes: tuple[str, ...]) -> None:
        """Go on as another slot of the same picture, retried for good."""
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))
        self.notes, self.retried = notes, True

    @property
    def stage(self) -> Stage:
        return self.stages[self.stage_index]

    @property
    def place(self) -> int:
        """Steps done in this stage: the row of its table that comes next."""
        return self.step - sum(len(stage) for stage in self.stages[: self.stage_index])

    @property
    def ends_stage(self) -> bool:
        """Whether this stage's steps are done and another follows."""
        return self.place == len(self.stage) and self.stage_index + 1 < len(self.stages)

    @property
    def batch_key(self) -> BatchKey:
        return self.stage.key

    @property
    def table(self) -> SamplerTable:
        return self.stage.table

    @property
    def conditioning(self) -> Conditioning:
        return self.stage.conditioning

    @property
    def rows(self) -> int:
        return self.conditioning.rows

    @property
    def cost(self) -> int:
        return self.stage.width * self.stage.height * self.rows

    @property
    def steps(self) -> int:
        return sum(map(len, self.stages))

    @property
    def latents(self) -> Tensor:
        return self.state.latents

    @property
    def asked_step(self) -> int:
        """The step, of those asked for, that the next evaluation is part of."""
        return self.stage.asked_step(self.place)

    @property
    def denoised(self) -> Tensor:
        """The finished latents as guessed by the last evaluation, of the stage before while this one
        has made none; at the very start, what it begins with."""
        if not self.state.estimates:
            return self.latents if self.seen is None else self.seen
        of_latents, of_estimate = self.table.glimpses[self.place - 1]
        return of_latents * self.latents + of_estimate * self.state.estimates[0]
