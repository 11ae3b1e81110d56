"""The three networks of the starter model, and its noise schedule."""

from __future__ import annotations

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

#: Tokens a prompt is padded or cut to. The longest caption of the grammar needs about 25.
MAX_TOKENS = 32
TEXT_WIDTH = 192
LATENT_CHANNELS = 4
#: Pixels a latent stands for, on a side.
FACTOR = 8
NATIVE_SIZE = 128


def make_vae() -> AutoencoderKL:
    """f8, 4 latent channels, no attention, so it works at any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        mid_block_add_attention=False,
        sample_size=NATIVE_SIZE,
    )


def make_unet() -> UNet2DConditionModel:
    """Three levels: 16, 8 and 4 latents a side at the native size; text enters at two."""
    channels = (96, 128, 192)
    return UNet2DConditionModel(
        sample_size=NATIVE_SIZE // FACTOR,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        # diffusers reads this as the number of heads: 32 channels each.
        attention_head_dim=tuple(c // 32 for c in channels),
        norm_num_groups=32,
        use_linear_projection=True,
    )


def make_text_encoder(vocab_size: int, bos: int, eos: int) -> CLIPTextModel:
    """A small CLIP text tower; trained with the UNet from nothing."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=TEXT_WIDTH // 32,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=TEXT_WIDTH,
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
