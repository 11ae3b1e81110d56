"""Diffusers' blocks without what a step has no use for.

Theirs ask at every call what can be asked once: which kind of norm, whether there is a mask, what
parameters the attention's processor takes. They also copy each transformer's output out of the
memory format that the convolutions before and after it work in. Measured on two cores, that is a
fifth of a step of 2 rows of the starter's UNet at 128 px. These compute the same, layer for layer,
from the same layers under the same names.
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from sfumato.core.errors import EngineFailure


def make_lean(network: nn.Module) -> None:
    """Replace the blocks below ``network`` that are of the common kinds; others stay as they are."""
    for name, child in network.named_children():
        make_lean(child)
        lean = _lean(child)
        if lean is not None:
            setattr(network, name, lean)


def _lean(module: nn.Module) -> nn.Module | None:
    # Not by isinstance: a subclass may compute something else.
    if type(module) is ResnetBlock2D and _is_plain_resnet(module):
        return LeanResnet(module)
    if type(module) is Attention and _is_plain_attention(module):
        return LeanAttention(module)
    if type(module) is BasicTransformerBlock and _is_plain_block(module):
        return LeanTransformerBlock(module)
    if type(module) is Transformer2DModel and _is_plain_transformer(module):
        return LeanTransformer(module)
    return None


class LeanResnet(nn.Module):
    """Two convolutions and the way around them, with the time between."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.time_emb_proj = block.time_emb_proj
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        self._scale: float = block.output_scale_factor

    def forward(self, images: Tensor, time: Tensor | None) -> Tensor:
        """``images``: (rows, channels, height, width); ``time``: (rows, width), or None."""
        values = self.conv1(_silu(_group_norm(self.norm1, images)))
        if self.time_emb_proj is not None and time is not None:
            values.add_(self.time_emb_proj(functional.silu(time))[:, :, None, None])
        values = self.conv2(_silu(_group_norm(self.norm2, values)))
        values.add_(images if self.conv_shortcut is None else self.conv_shortcut(images))
        return cast("Tensor", values if self._scale == 1.0 else values.div_(self._scale))


class LeanAttention(nn.Module):
    """Attention of several heads, to the values themselves or to a text."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out
        self._heads: int = attention.heads

    def forward(self, values: Tensor, text: Tensor) -> Tensor:
        """``values``: (rows, positions, width); ``text``: (rows, tokens, width)."""
        rows, positions, _ = values.shape
        query, key, value = (
            each.view(rows, each.shape[1], self._heads, -1).transpose(1, 2)
            for each in (self.to_q(values), self.to_k(text), self.to_v(text))
        )
        answer = functional.scaled_dot_product_attention(query, key, value)
        joined = answer.transpose(1, 2).reshape(rows, positions, -1)
        return self.to_out[0](joined)  # type: ignore[no-any-return]


class LeanTransformerBlock(nn.Module):
    """Attention to itself, attention to the text, and a gated feed-forward network."""

    def __init__(self, block: BasicTransformerBlock) -> None:
        super().__init__()
        self.norm1, self.attn1 = block.norm1, block.attn1
        self.norm2, self.attn2 = block.norm2, block.attn2
        self.norm3, self.ff = block.norm3, block.ff

    def forward(self, values: Tensor, text: Tensor) -> Tensor:
        """``values``: (rows, positions, width); ``text``: (rows, tokens, width)."""
        normed = _layer_norm(self.norm1, values)
        values = self.attn1(normed, normed).add_(values)
        values = self.attn2(_layer_norm(self.norm2, values), text).add_(values)
        return self._fed(_layer_norm(self.norm3, values)).add_(values)

    def _fed(self, values: Tensor) -> Tensor:
        expanding, _dropout, narrowing = self.ff.net
        linear, gate = expanding.proj(values).chunk(2, dim=-1)
        return cast("Tensor", narrowing(functional.gelu(gate).mul_(linear)))


class LeanTransformer(nn.Module):
    """Transformer blocks over the positions of a picture, which stays channels last."""

    def __init__(self, transformer: Transformer2DModel) -> None:
        super().__init__()
        self.norm = transformer.norm
        self.proj_in, self.proj_out = transformer.proj_in, transformer.proj_out
        self.transformer_blocks = transformer.transformer_blocks
        self._linear: bool = transformer.use_linear_projection

    def forward(
        self,
        images: Tensor,
        encoder_hidden_states: Tensor,
        *,
        return_dict: bool = False,
        **conditions: object,
    ) -> tuple[Tensor]:
        """``images``: (rows, channels, height, width); as diffusers' blocks call it.

        Raises:
            EngineFailure: on masks and other conditions, none of which the engine sets.
        """
        if return_dict or any(value is not None for value in conditions.values()):
            raise EngineFailure("A transformer block was called with conditions it does not know.")
        rows, _, height, width = images.shape
        values = _group_norm(self.norm, images)
        if not self._linear:
            values = self.proj_in(values)
        values = values.permute(0, 2, 3, 1).reshape(rows, height * width, -1)
        if self._linear:
            values = self.proj_in(values)
        for block in self.transformer_blocks:
            values = block(values, encoder_hidden_states)
        if self._linear:
            values = self.proj_out(values)
        # A view, and channels last already: the positions were laid out so.
        values = values.reshape(rows, height, width, -1).permute(0, 3, 1, 2)
        if not self._linear:
            values = self.proj_out(values)
        return (values + images,)


def _silu(values: Tensor) -> Tensor:
    """In place of what a norm has just made."""
    return functional.silu(values, inplace=True)


def _group_norm(norm: nn.GroupNorm, images: Tensor) -> Tensor:
    return torch.group_norm(images, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _layer_norm(norm: nn.LayerNorm, values: Tensor) -> Tensor:
    return torch.layer_norm(values, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps)


def _is_plain_resnet(block: ResnetBlock2D) -> bool:
    return (
        block.upsample is None
        and block.downsample is None
        and block.time_embedding_norm == "default"
        and not block.skip_time_act
        and type(block.nonlinearity) is nn.SiLU
        and type(block.norm1) is type(block.norm2) is nn.GroupNorm
    )


def _is_plain_attention(attention: Attention) -> bool:
    return (
        type(attention.processor) is AttnProcessor2_0
        and attention.group_norm is attention.spatial_norm is attention.norm_cross is None
        and attention.norm_q is attention.norm_k is None
        and not attention.residual_connection
        and attention.rescale_output_factor == 1.0
    )


def _is_plain_block(block: BasicTransformerBlock) -> bool:
    return (
        block.norm_type == "layer_norm"
        and block.pos_embed is None
        and not block.only_cross_attention
        and not hasattr(block, "fuser")
        and type(block.attn1) is type(block.attn2) is LeanAttention
        and type(block.ff) is FeedForward
        and type(block.ff.net[0]) is GEGLU
        and len(block.ff.net) == 3
    )


def _is_plain_transformer(transformer: Transformer2DModel) -> bool:
    return transformer.is_input_continuous and all(
        type(block) is LeanTransformerBlock for block in transformer.transformer_blocks
    )
