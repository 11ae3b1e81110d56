"""What steers one picture: the prompts of every step, their weights and the negative prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sfumato.core.ports import ImageTask
from sfumato.core.prompts import parse_negative, parse_prompt
from sfumato.engine.additions import NOTHING, Additions
from sfumato.engine.network import Encoded
from sfumato.engine.prompts import PromptEncoder


@dataclass(frozen=True, slots=True, eq=False)
class PromptByStep:
    """The few texts that a prompt becomes.

    Attributes:
        choice: which of them each step uses.
    """

    distinct: tuple[Encoded, ...]
    choice: tuple[int, ...]

    def at(self, step: int) -> Encoded:
        """For the step after ``step`` steps are done."""
        return self.distinct[self.choice[step]]


@dataclass(frozen=True, slots=True)
class _Texts:
    """What a task says, before it is read.

    Attributes:
        by_step: for every prompt, then for the negative one if there is any, its text at each step.
        weights: of the prompts.
    """

    by_step: tuple[Sequence[str], ...]
    weights: tuple[float, ...]

    @property
    def distinct(self) -> list[str]:
        return list(dict.fromkeys(text for texts in self.by_step for text in texts))

    @property
    def with_negative(self) -> bool:
        return len(self.by_step) > len(self.weights)


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """The rows that a picture takes in the network's batch. All have equally many tokens.

    The network's answer is ``n + Σ weightᵢ · scale · (pᵢ - n)`` for its answers ``p`` to the
    prompts and ``n`` to the negative one: guidance for one prompt, composable diffusion
    (https://arxiv.org/abs/2206.01714, equation 11) for several. Without a negative prompt it is
    the answer to the only prompt.
    """

    prompts: tuple[PromptByStep, ...]
    weights: tuple[float, ...]
    negative: PromptByStep | None
    scale: float

    @property
    def rows(self) -> int:
        return len(self.prompts) + (self.negative is not None)

    @property
    def tokens(self) -> int:
        return self.prompts[0].distinct[0].tokens.shape[0]


def condition(
    encoder: PromptEncoder,
    task: ImageTask,
    *,
    guided: bool,
    steps: int | None = None,
    additions: Additions = NOTHING,
) -> Conditioning:
    """Encode the prompts of a task, all in one call.

    Shorter texts are filled up with chunks of the empty prompt, as A1111 does.

    Args:
        guided: whether the network is asked twice, with the prompt and with the negative one.
            Several prompts always need the negative one; without guidance their scale is 1.
        steps: over which prompts change that do; None: those of the settings.
        additions: what the texts are read with.

    Raises:
        InvalidRequest: a prompt is too long.
    """
    said = _texts(task, guided=guided, steps=steps)
    texts, clip_skip = said.distinct, task.request.clip_skip
    encoded = dict(zip(texts, encoder.encode(texts, clip_skip, additions), strict=True))
    encoded = _filled_up(encoder, encoded, clip_skip, additions)
    prompts = [_by_step(texts, encoded) for texts in said.by_step]
    negative = prompts[-1] if said.with_negative else None
    empty = not any(map(str.strip, said.by_step[-1]))
    if negative is not None and encoder.zeros_for_empty and empty:
        negative = _zeros(negative)
    return Conditioning(
        prompts=tuple(prompts[: len(said.weights)]),
        weights=said.weights,
        negative=negative,
        scale=task.settings.guidance_scale if guided else 1.0,
    )


def texts_of(task: ImageTask, *, guided: bool) -> list[str]:
    """What :func:`condition` will have read for a task without additions."""
    return _texts(task, guided=guided, steps=None).distinct


def _texts(task: ImageTask, *, guided: bool, steps: int | None) -> _Texts:
    request, settings = task.request, task.settings
    parts = parse_prompt(request.prompt).parts
    templates = [part.template for part in parts]
    if guided or len(parts) > 1:
        templates.append(parse_negative(request.negative_prompt))
    steps = settings.num_inference_steps if steps is None else steps
    return _Texts(
        tuple(template.by_step(steps) for template in templates),
        tuple(part.weight for part in parts),
    )


def _filled_up(
    encoder: PromptEncoder, encoded: dict[str, Encoded], clip_skip: int, additions: Additions
) -> dict[str, Encoded]:
    lengths = {text: found.tokens.shape[0] for text, found in encoded.items()}
    most = max(lengths.values())
    if most == min(lengths.values()):
        return encoded
    (empty,) = encoder.encode([""], clip_skip, additions)
    missing = {text: (most - length) // empty.tokens.shape[0] for text, length in lengths.items()}
    return {
        text: replace(found, tokens=torch.cat([found.tokens, *[empty.tokens] * missing[text]]))
        for text, found in encoded.items()
    }


def _zeros(prompt: PromptByStep) -> PromptByStep:
    """As many tokens that say nothing at all."""
    nothing = [
        Encoded(
            torch.zeros_like(text.tokens),
            None if text.pooled is None else torch.zeros_like(text.pooled),
        )
        for text in prompt.distinct
    ]
    return PromptByStep(tuple(nothing), prompt.choice)


def _by_step(texts: Sequence[str], encoded: dict[str, Encoded]) -> PromptByStep:
    distinct = list(dict.fromkeys(texts))
    place = {text: n for n, text in enumerate(distinct)}
    return PromptByStep(
        tuple(encoded[text] for text in distinct), tuple(place[text] for text in texts)
    )
