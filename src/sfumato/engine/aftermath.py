"""What follows a step: on to the next stage, or back to where a slot was well, in float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from sfumato.core.errors import EngineError, InvalidRequest, NumericalError
from sfumato.engine.admission import admit, resume
from sfumato.engine.checkpoints import export_slot
from sfumato.engine.failures import failures
from sfumato.engine.networks import Networks
from sfumato.engine.slots import DiffusionSlot

log = logging.getLogger(__name__)

#: Steps between two looks for numbers that are not finite, where the dtype makes them likely.
_WATCHED_EVERY = 4


def watch(slots: Sequence[DiffusionSlot], networks: Networks) -> None:
    """Every few steps, for to look is to wait for the device: keep the state of the slots that are
    well, and send those that are not back to theirs, in float32, once each."""
    due = [
        slot
        for slot in slots
        if not slot.retried
        and (slot.step % _WATCHED_EVERY == 0 or slot.step == slot.steps or slot.ends_stage)
    ]
    if not due:
        return
    found = torch.stack([slot.failed_at for slot in due]).tolist()
    for slot, failed_at in zip(due, found, strict=True):
        if failed_at:
            _retry(slot, int(failed_at), networks)
        elif slot.step < slot.steps and not slot.ends_stage:
            slot.well = export_slot(slot)


def _retry(slot: DiffusionSlot, failed_at: int, networks: Networks) -> None:
    slot.retried = True
    try:
        with failures("admit a picture again"):
            fresh = (
                admit(slot.task, networks, precise=True)
                if slot.well is None
                else resume(slot.task, slot.well, networks, precise=True)
            )
    except (EngineError, InvalidRequest) as error:
        # Then it fails once its steps are done, as without a retry.
        log.warning("job %s is not retried in float32: %s", slot.task.job_id, error)
        return
    note = f"the network overflowed at step {failed_at}; drawn in float32 from step {fresh.step}"
    slot.become(fresh, (*slot.notes, note))


def enter_next(slot: DiffusionSlot, networks: Networks, *, watched: bool) -> None:
    """Bring a slot whose stage's steps are done to the next, or keep the reason why it can't.

    Args:
        watched: whether its state is kept for a retry.
    """
    following = slot.stages[slot.stage_index + 1]
    try:
        check_finite(slot)
        with failures(f"begin stage {slot.stage_index + 2} of a picture"):
            before = replace(slot.began, latents=slot.latents)
            began = following.origin.begin(following, before, slot.generator, networks)
    except (EngineError, InvalidRequest) as error:
        slot.fail(error)
        return
    slot.enter_next(began)
    if watched and not slot.retried:
        slot.well = export_slot(slot)


def check_finite(slot: DiffusionSlot) -> None:
    """Raises ``NumericalError``, with the step, where the network overflowed."""
    if failed_at := int(slot.failed_at):
        raise NumericalError(
            f"The network answered with numbers that are not finite at step {failed_at} of "
            f"{slot.steps}. Another seed, fewer guidance or another precision may help."
        )
