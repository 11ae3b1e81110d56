"""What steers one picture: the prompts of every step, their weights and the negative prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.ports import ImageTask
from sfumato.core.prompts import check_prompts, parse_negative, parse_prompt
from sfumato.engine.prompts import PromptEncoder


@dataclass(frozen=True, slots=True, eq=False)
class PromptByStep:
    """Embeddings, (tokens, width), of the few texts that a prompt becomes.

    Attributes:
        choice: which of them each step uses.
    """

    distinct: tuple[Tensor, ...]
    choice: tuple[int, ...]

    def at(self, step: int) -> Tensor:
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
        return self.prompts[0].distinct[0].shape[0]


def condition(encoder: PromptEncoder, task: ImageTask, *, guided: bool) -> Conditioning:
    """Encode the prompts of a task, all in one call.

    Shorter texts are filled up with chunks of the empty prompt, as A1111 does.

    Args:
        guided: whether the network is asked twice, with the prompt and with the negative one.
            Several prompts always need the negative one; without guidance their scale is 1.

    Raises:
        InvalidRequest: a prompt is too long, or asks for what this engine has not.
    """
    request, settings = task.request, task.settings
    # Again, for jobs that were made before the service knew what to refuse.
    check_prompts(request.prompt, request.negative_prompt)
    parts = parse_prompt(request.prompt).parts
    templates = [part.template for part in parts]
    weights = tuple(part.weight for part in parts)
    with_negative = guided or len(parts) > 1
    if with_negative:
        templates.append(parse_negative(request.negative_prompt))
    by_step = [template.by_step(settings.num_inference_steps) for template in templates]
    texts = list(dict.fromkeys(text for texts in by_step for text in texts))
    encoded = dict(zip(texts, encoder.encode(texts, request.clip_skip), strict=True))
    encoded = _filled_up(encoder, encoded, request.clip_skip)
    prompts = [_by_step(texts, encoded) for texts in by_step]
    return Conditioning(
        prompts=tuple(prompts[: len(parts)]),
        weights=weights,
        negative=prompts[-1] if with_negative else None,
        scale=settings.guidance_scale if guided else 1.0,
    )


def _filled_up(
    encoder: PromptEncoder, encoded: dict[str, Tensor], clip_skip: int
) -> dict[str, Tensor]:
    tokens = {tensor.shape[0] for tensor in encoded.values()}
    if len(tokens) == 1:
        return encoded
    (empty,) = encoder.encode([""], clip_skip)
    return {
        text: torch.cat([tensor, *[empty] * ((max(tokens) - tensor.shape[0]) // empty.shape[0])])
        for text, tensor in encoded.items()
    }


def _by_step(texts: Sequence[str], encoded: dict[str, Tensor]) -> PromptByStep:
    distinct = list(dict.fromkeys(texts))
    place = {text: n for n, text in enumerate(distinct)}
    return PromptByStep(
        tuple(encoded[text] for text in distinct), tuple(place[text] for text in texts)
    )
