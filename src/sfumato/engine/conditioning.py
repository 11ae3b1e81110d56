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
    request, settings = task.request, task.settings
    parts = parse_prompt(request.prompt).parts
    templates = [part.template for part in parts]
    weights = tuple(part.weight for part in parts)
    with_negative = guided or len(parts) > 1
    if with_negative:
        templates.append(parse_negative(request.negative_prompt))
    steps = settings.num_inference_steps if steps is None else steps
    by_step = [template.by_step(steps) for template in templates]
    texts = list(dict.fromkeys(text for texts in by_step for text in texts))
    encoded = dict(zip(texts, encoder.encode(texts, request.clip_skip, additions), strict=True))
    encoded = _filled_up(encoder, encoded, request.clip_skip, additions)
    prompts = [_by_step(texts, encoded) for texts in by_step]
    negative = prompts[-1] if with_negative else None
    if negative is not None and encoder.zeros_for_empty and not any(map(str.strip, by_step[-1])):
        negative = _zeros(negative)
    return Conditioning(
        prompts=tuple(prompts[: len(parts)]),
        weights=weights,
        negative=negative,
        scale=settings.guidance_scale if guided else 1.0,
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
