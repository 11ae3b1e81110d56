"""What a network computes from the prompt alone is computed once, not at every step.

In each cross-attention the keys and values depend on nothing but the prompt's embeddings. Measured
on two cores: a twentieth of a step of the starter's UNet at 128 px.
"""

from __future__ import annotations

from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn


class Remembered(nn.Module):
    """A layer that answers at once when it is given the very tensor that it was given last.

    The same tensor, not an equal one: to compare them would cost more than it saves. Whoever
    changes a tensor in place must hand over another.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self._given: Tensor | None = None
        self._answer: Tensor

    def forward(self, values: Tensor) -> Tensor:
        if values is not self._given:
            self._answer = self.layer(values)
            self._given = values
        return self._answer

    def forget(self) -> None:
        """Compute anew when asked next, as the layer answers otherwise from now on."""
        self._given = None


def remember_prompts(unet: nn.Module) -> None:
    """Let every cross-attention below ``unet`` remember the keys and values of its prompt."""
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock) and block.attn2 is not None:
            block.attn2.to_k = Remembered(block.attn2.to_k)
            block.attn2.to_v = Remembered(block.attn2.to_v)
