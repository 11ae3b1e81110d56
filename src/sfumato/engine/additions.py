"""What a picture's request adds to its model: LoRAs, and words that were learned."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sfumato.core.extras import wanted_loras
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.ports import ImageTask
from sfumato.engine.embeddings import LearnedWords, read_embedding
from sfumato.engine.lora import UNET, Changes, Lora, read_lora
from sfumato.engine.weights import Placement

if TYPE_CHECKING:
    from sfumato.engine.families.sd import StableDiffusion
    from sfumato.engine.networks import Networks


@dataclass(frozen=True, slots=True, eq=False)
class WeighedLora:
    """A LoRA and its weights, for the denoising network and for the text encoders."""

    lora: Lora
    weight: float
    text_weight: float

    def of(self, network: str) -> float:
        return self.weight if network == UNET else self.text_weight


@dataclass(frozen=True, slots=True, eq=False)
class Additions:
    """The additions of one picture to one model."""

    loras: tuple[WeighedLora, ...] = ()
    words: LearnedWords = field(default_factory=LearnedWords)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the caller should know of them."""
        return tuple(note for each in self.loras for note in each.lora.notes)

    def changes(self, network: str = UNET) -> tuple[tuple[Changes, float], ...]:
        """Of the network of that name, and their weights, none of which is 0."""
        return tuple(
            (each.lora.changes[network], each.of(network))
            for each in self.loras
            if network in each.lora.changes and each.of(network)
        )

    def key(self, text: str) -> Hashable:
        """What of them decides how a text is read."""
        loras = tuple(
            (each.lora.digest, each.text_weight)
            for each in self.loras
            if each.text_weight and set(each.lora.changes) - {UNET}
        )
        return loras, self.words.used(text)


#: Of a picture that asks for none.
NOTHING = Additions()


def additions_of(
    task: ImageTask,
    model: StableDiffusion,
    networks: Networks,
    *,
    precise: bool,
    with_loras: bool = True,
) -> Additions:
    """Those that the request asks for, from memory or from disk.

    Args:
        model: the task's own or its refiner, in the precision asked for.
        with_loras: False for a refiner whose network is of another kind than the task's model.

    Raises:
        ModelRefused: one is for models of another family, or of a kind that is not known.
        ModelUnusable: a file is broken.
    """

    def read(info: ModelInfo, placement: Placement) -> Lora:
        return read_lora(info, model.adaptables, placement)

    loras = [
        WeighedLora(
            # By the model, too: its layers' names and shapes decide what is read of the file.
            networks.extra(
                task.extra(ModelKind.LORA, use.name), read, precise=precise, variant=model.hash
            ),
            use.weight,
            use.text,
        )
        for use in (wanted_loras(task.request) if with_loras else ())
    ]
    embeddings = [
        networks.extra(info, read_embedding, precise=precise)
        for info in task.extras
        if info.kind is ModelKind.EMBEDDING
    ]
    if not loras and not embeddings:
        return NOTHING
    return Additions(tuple(loras), LearnedWords(embeddings, model.prompts.widths))
