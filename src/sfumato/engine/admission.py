"""From a task to a slot: its stages, and the state that it begins in or is resumed at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.edits import LATENT_UPSCALER
from sfumato.core.models import ModelKind
from sfumato.core.ports import ImageTask
from sfumato.core.prompts import check_prompts
from sfumato.core.sizes import Size, hires_size
from sfumato.engine.additions import additions_of
from sfumato.engine.canvas import Canvas, prepare
from sfumato.engine.checkpoints import restored
from sfumato.engine.conditioning import condition, texts_of
from sfumato.engine.controlled import Controlled, Frame
from sfumato.engine.enlarging import Enlarging
from sfumato.engine.exactness import with_fixed_rows
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.finishing import Finishing
from sfumato.engine.networks import Networks
from sfumato.engine.noises import noise_source
from sfumato.engine.origins import Enlarged, FromNoise, FromPicture
from sfumato.engine.refining import with_refiner
from sfumato.engine.samplers import table_for
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.stages import BatchKey, Origin, Stage

#: Kinds of extras that change how a text is read.
_CHANGING = {ModelKind.LORA, ModelKind.EMBEDDING}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a picture is drawn.

    Attributes:
        stages: in their order; at least one.
        finishing: what becomes of it once it is decoded.
    """

    stages: tuple[Stage, ...]
    finishing: Finishing

    def told(self, slot: DiffusionSlot) -> DiffusionSlot:
        """A slot of these stages, told what comes after them and what the caller should know."""
        canvas = self.finishing.canvas
        slot.finishing = self.finishing
        notes = [note for stage in self.stages for note in stage.additions.notes]
        notes += () if canvas is None else canvas.notes
        slot.notes = tuple(dict.fromkeys(notes))
        return slot


def admit(task: ImageTask, networks: Networks, *, precise: bool = False) -> DiffusionSlot:
    """A slot at its first step.

    Args:
        precise: in float32, whatever the engine's dtype is.
    """
    made = plan(task, networks, precise=precise)
    generator = noise_source(task.seed)
    first = made.stages[0]
    began = first.origin.begin(first, None, generator, networks)
    return made.told(DiffusionSlot.beginning(task, made.stages, generator, began))


def read_together(tasks: Sequence[ImageTask], networks: Networks) -> None:
    """Read the prompts of tasks that are admitted next, in full batches of their text encoders.

    What was read is then in the encoders' caches. A text that LoRAs or learned words change is read
    with its own task.

    Raises:
        InvalidRequest: a prompt is too long, or all of them together are.
    """
    texts: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for task in tasks:
        if not {extra.kind for extra in task.extras} & _CHANGING:
            model = networks.model(task.model.name, precise=False)
            said = texts_of(task, guided=_guided(task, model))
            texts[task.model.name, task.request.clip_skip] |= dict.fromkeys(said)
    for (name, clip_skip), distinct in texts.items():
        networks.model(name, precise=False).prompts.encode(list(distinct), clip_skip)


def resume(
    task: ImageTask, blob: bytes, networks: Networks, *, precise: bool = False
) -> DiffusionSlot:
    """A slot at the step at which it was exported, without what its stages began with.

    Raises:
        EngineFailure: the blob is damaged, or of another task or model size.
    """
    made = plan(task, networks, precise=precise)
    return made.told(restored(task, made.stages, blob, networks.device))


def plan(task: ImageTask, networks: Networks, *, precise: bool) -> Plan:
    """The stages of a picture. Nothing of it is drawn yet."""
    # Again, for jobs that were made before the service knew what to refuse.
    check_prompts(task.request.prompt, task.request.negative_prompt)
    settings, hires, upscaling = task.settings, task.request.hires, task.request.upscaling
    canvas = prepare(task)
    drawn = settings.render_width, settings.render_height
    draft = _Draft(task, networks, canvas, precise=precise)
    stages = [
        draft.stage(
            drawn,
            FromNoise(task) if canvas is None else FromPicture(task, canvas),
            steps=settings.num_inference_steps,
            strength=settings.strength if canvas is not None else None,
        )
    ]
    if hires is not None:
        larger = hires_size(task.request, drawn)
        by_network = hires.upscaler != LATENT_UPSCALER
        enlarge = Enlarging(task, networks, hires.upscaler, larger) if by_network else None
        stages.append(
            draft.stage(
                larger,
                Enlarged(drawn, enlarge),
                steps=hires.num_inference_steps or settings.num_inference_steps,
                strength=hires.strength,
            )
        )
    stages[-1:] = with_refiner(stages[-1], task, networks, precise=precise)
    delivered = settings.width, settings.height
    finishing = Finishing(
        canvas,
        None if upscaling is None else Enlarging(task, networks, upscaling.upscaler, delivered),
    )
    fixed = with_fixed_rows(tuple(stages), settings.determinism, networks.device)
    return Plan(fixed, finishing)


class _Draft:
    """What the stages of a picture have in common."""

    def __init__(
        self, task: ImageTask, networks: Networks, canvas: Canvas | None, *, precise: bool
    ) -> None:
        self._task = task
        self._networks = networks
        self._precise = precise
        frame = None
        if canvas is not None and canvas.base is not None:
            frame = Frame(canvas.base.size, canvas.box)
        self._controlled = Controlled(task, frame)

    def stage(self, size: Size, origin: Origin, *, steps: int, strength: float | None) -> Stage:
        """A stage of the task's own model.

        Args:
            size: width and height in pixels.
            steps: of which a part is taken where there is a picture to begin with.
            strength: that part; None: all.
        """
        task, settings = self._task, self._task.settings
        model = self._networks.model(task.model.name, precise=self._precise)
        guided = _guided(task, model)
        additions = additions_of(task, model, self._networks, precise=self._precise)
        conditioning = condition(
            model.prompts, task, guided=guided, steps=steps, additions=additions
        )
        shape = model.latent_shape(*size)
        start = 0 if strength is None else skipped(steps, strength)
        table = table_for(settings.sampler, steps, model.schedule, settings.schedule, start=start)
        controls = self._controlled.at(
            self._networks, model, size, steps=len(table), precise=self._precise
        )
        vae = None
        if task.request.vae is not None:
            info = task.extra(ModelKind.VAE, task.request.vae)
            vae = self._networks.vae(info, task.model.name, precise=self._precise)
        return Stage(
            key=BatchKey(
                task.model.name,
                shape,
                conditioning.tokens,
                self._precise,
                tuple(control.net.hash for control in controls),
            ),
            width=size[0],
            height=size[1],
            table=table,
            conditioning=conditioning,
            guidance_scale=settings.guidance_scale,
            asked=(start, steps),
            origin=origin,
            controls=controls,
            vae=vae,
            additions=additions,
        )


def _guided(task: ImageTask, model: StableDiffusion) -> bool:
    """Whether the network is asked twice, with the prompt and with the negative one."""
    return task.settings.guidance_scale > 1 and not model.guidance_embedded


def skipped(steps: int, strength: float) -> int:
    """How many steps are left out where a picture is begun with, as diffusers counts them: a part
    of ``strength`` is taken, cut to whole steps, but at least one."""
    return steps - max(1, min(int(steps * strength), steps))
