"""Tell the UNet's cross-attention which token speaks of which position.

The text encoder's last tokens each say what a region looks like (:mod:`.train_text`). A UNet has no
coordinates but the edges that its convolutions see, so by itself it takes hours to find out that
a token belongs to a place; until then it draws the mean of all. Most heads of the attentions behind
the UNet's middle are therefore asked for their region's token; the others stay free for words.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from training.starter.train_text import REGIONS

#: Of four heads, so many are asked.
_ASKED = 0.75


class Addressing:
    """Attention processors that also say how far the attention is from the wanted one.

    Args:
        unet: its middle's and upper blocks' cross-attentions compute by this from now on.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._losses: list[Tensor] = []
        for name, module in unet.named_modules():
            behind = name.startswith(("mid_block", "up_blocks"))
            if isinstance(module, Attention) and module.is_cross_attention and behind:
                module.set_processor(self)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        **_unused: object,
    ) -> Tensor:
        """(n, positions, width) and (n, tokens, text width) to (n, positions, width)."""

        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        key, value = (heads(part(encoder_hidden_states)) for part in (attn.to_k, attn.to_v))
        logs = (query @ key.transpose(-1, -2) * attn.scale).log_softmax(dim=-1)
        if torch.is_grad_enabled():
            wanted = region_tokens(logs.shape[-2], logs.shape[-1]).to(logs.device)
            asked = logs[:, : max(1, int(attn.heads * _ASKED))]
            found = asked.gather(-1, wanted.expand(*asked.shape[:-1], 1))
            self._losses.append(-found.float().mean())
        mixed: Tensor = (logs.exp() @ value).transpose(1, 2).flatten(2)
        answer: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return answer

    def loss(self) -> Tensor:
        """Mean cross entropy of all attentions since the last call, in nats; 0 is the wanted one."""
        found = torch.stack(self._losses).mean()
        self._losses.clear()
        return found


def region_tokens(positions: int, tokens: int) -> Tensor:
    """(positions, 1): the token of each position's region, of a square of positions row by row."""
    side = round(positions**0.5)
    region = torch.arange(side) * REGIONS // side
    return (tokens - REGIONS**2 + REGIONS * region[:, None] + region[None]).reshape(-1, 1)
