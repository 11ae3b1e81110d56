"""The three networks of the starter model, and its noise schedule."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

#: Tokens a prompt is padded or cut to. The longest caption of the grammar needs 22; the text encoder
#: learns to describe the picture region by region on the last 16, which are padding (:mod:`.plan`).
MAX_TOKENS = 40
LATENT_CHANNELS = 8
#: Pixels a latent stands for, on a side.
FACTOR = 8


@dataclass(frozen=True)
class Shape:
    """How large the networks are.

    Attributes:
        size: pixels a side that the model draws; a multiple of 64.
        unet: channels of each level. The first is as large as the latents and thin: half of a step's
            time would be spent there otherwise.
        heads: channels of one attention head.
    """

    size: int
    vae: tuple[int, int, int, int]
    unet: tuple[int, int, int, int]
    text_width: int
    text_layers: int
    groups: int = 32
    heads: int = 32


#: 16 M, 2 M and 2 M numbers, about 40 MB in half precision.
RELEASE = Shape(256, (16, 32, 64, 128), (32, 64, 128, 256), 192, 3)
#: For tests of the whole way: wrong in every picture, and quick.
TINY = Shape(64, (8, 8, 16, 16), (16, 16, 16, 32), 32, 1, groups=8, heads=8)
SHAPES = {"release": RELEASE, "tiny": TINY}


def make_vae(shape: Shape = RELEASE) -> AutoencoderKL:
    """f8, no attention, so it works at any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=shape.vae,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=shape.size,
    )


def make_unet(shape: Shape = RELEASE) -> UNet2DConditionModel:
    """Four levels, each half as wide as the one before; text enters at the two smallest."""
    return UNet2DConditionModel(
        sample_size=shape.size // FACTOR,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=shape.unet,
        layers_per_block=1,
        down_block_types=(*("DownBlock2D",) * 2, *("CrossAttnDownBlock2D",) * 2),
        up_block_types=(*("CrossAttnUpBlock2D",) * 2, *("UpBlock2D",) * 2),
        cross_attention_dim=shape.text_width,
        # diffusers reads this as the number of heads.
        attention_head_dim=tuple(c // shape.heads for c in shape.unet),
        norm_num_groups=shape.groups,
        use_linear_projection=True,
    )


def make_text_encoder(vocab_size: int, bos: int, eos: int, shape: Shape = RELEASE) -> CLIPTextModel:
    """A small CLIP text tower; trained with the UNet from nothing."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=max(1, shape.text_width // 64),
            max_position_embeddings=MAX_TOKENS,
            projection_dim=shape.text_width,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def make_scheduler() -> DPMSolverMultistepScheduler:
    """v-prediction with zero terminal SNR, without which no night sky gets dark."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )
