from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.checkpoints import SafetensorsHeader, TensorSpec
from sfumato.core.kinds import FoundKind, detect_kind
from sfumato.core.models import ModelKind

KOHYA = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
KOHYA_XL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
DIFFUSERS = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2"
WORDS = "text_model_encoder_layers_0_self_attn_q_proj"


def detect(shapes: dict[str, tuple[int, ...]], **metadata: str) -> FoundKind | None:
    tensors = {name: TensorSpec("F16", shape) for name, shape in shapes.items()}
    return detect_kind(SafetensorsHeader(tensors, metadata, b""))


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({f"{KOHYA}.lora_down.weight": (8, 768), f"{KOHYA}.alpha": ()}, "sd1"),
        ({f"{KOHYA}.lora_down.weight": (8, 1024, 1, 1)}, "sd2"),
        ({f"{KOHYA_XL}.lora_down.weight": (8, 2048)}, "sdxl"),
        ({f"{DIFFUSERS}.to_k.lora_A.weight": (8, 768)}, "sd1"),
        ({f"{DIFFUSERS}.to_v.lora.down.weight": (8, 2048)}, "sdxl"),
        ({f"{DIFFUSERS}.processor.to_k_lora.down.weight": (8, 1024)}, "sd2"),
        ({f"base_model.model.{DIFFUSERS[5:]}.to_k.lora_A.default.weight": (8, 768)}, "sd1"),
        ({f"{KOHYA}.hada_w1_a": (320, 4), f"{KOHYA}.hada_w1_b": (4, 768)}, "sd1"),
        ({f"{KOHYA}.lokr_w1": (4, 16), f"{KOHYA}.lokr_w2_b": (4, 48)}, "sd1"),
        ({f"{KOHYA}.lokr_w1_a": (4, 2), f"{KOHYA}.lokr_w1_b": (2, 32), f"{KOHYA}.lokr_w2": (9, 64)},
         "sdxl"),
        ({f"lora_te_{WORDS}.lora_down.weight": (8, 768)}, "sd1"),
        ({f"lora_te_{WORDS}.lora_down.weight": (8, 1024)}, "sd2"),
        ({f"lora_te1_{WORDS}.lora_down.weight": (8, 768), "lora_te2_x.lora_down.weight": (8, 9)},
         "sdxl"),
        ({KOHYA_XL.replace("_0_attn2", "_3_attn1") + ".lora_down.weight": (8, 640)}, "sdxl"),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (8, 3072)}, "dit"),
        ({"transformer.transformer_blocks.0.attn.to_k.lora_A.weight": (8, 1536)}, "dit"),
        ({"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": (8, 1536)}, "dit"),
        ({f"{KOHYA}.lora_down.weight": (8, 64)}, ""),
        ({"lora_unet_conv_in.lora_down.weight": (8, 4, 3, 3)}, ""),
    ],
)  # fmt: skip
def test_loras_by_program_and_family(shapes: dict[str, tuple[int, ...]], family: str) -> None:
    assert detect(shapes) == FoundKind(ModelKind.LORA, family)


def test_what_shapes_do_not_tell_the_metadata_may() -> None:
    shapes = {"lora_unet_conv_in.lora_down.weight": (8, 4, 3, 3)}
    told = {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    assert detect(shapes, **told) == FoundKind(ModelKind.LORA, "sdxl")
    assert detect(shapes, ss_base_model_version="sd_v1") == FoundKind(ModelKind.LORA, "sd1")
    right = {f"{KOHYA}.lora_down.weight": (8, 768)}
    assert detect(right, **told) == FoundKind(ModelKind.LORA, "sd1")


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"emb_params": (4, 768)}, "sd1"),
        ({"emb_params": (4, 1024)}, "sd2"),
        ({"emb_params": (4, 64)}, ""),
        ({"clip_l": (4, 768), "clip_g": (4, 1280)}, "sdxl"),
        ({"<cat-toy>": (768,)}, "sd1"),
        ({"anything": (2, 768)}, "sd1"),
    ],
)
def test_embeddings_by_width(shapes: dict[str, tuple[int, ...]], family: str) -> None:
    assert detect(shapes) == FoundKind(ModelKind.EMBEDDING, family)


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3),
          "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
          "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (1, 9)},
         "sd1"),
        ({"input_hint_block.0.weight": (16, 3, 3, 3),
          "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)}, "sd2"),
        ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
          "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight": (640, 2048)},
         "sdxl"),
        ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, ""),
    ],
)  # fmt: skip
def test_controlnets_by_width(shapes: dict[str, tuple[int, ...]], family: str) -> None:
    assert detect(shapes) == FoundKind(ModelKind.CONTROLNET, family)


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        ({"decoder.conv_in.weight": (512, 4, 3, 3)}, ModelKind.VAE),
        ({"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}, ModelKind.VAE),
        ({"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
         ModelKind.UPSCALER),
        ({"params_ema.conv_first.weight": (64, 12, 3, 3)}, ModelKind.UPSCALER),
        ({"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
         ModelKind.UPSCALER),
        ({"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,)}, ModelKind.UPSCALER),
        ({"concept_embeds": (17, 768), "special_care_embeds": (3, 768)}, ModelKind.SAFETY),
    ],
)  # fmt: skip
def test_other_kinds_by_their_names(shapes: dict[str, tuple[int, ...]], kind: ModelKind) -> None:
    assert detect(shapes) == FoundKind(kind)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"lora_controlnet": (), "input_hint_block.0.weight": (16, 3, 3, 3)}, "Control-LoRA"),
        ({"lllite_unet_x.down.0.weight": (1,)}, "LLLite"),
        ({"adapter.body.0.in_conv.weight": (1,)}, "T2I-Adapter"),
        ({"decoder.conv_in.weight": (512, 16, 3, 3)}, "16 channels"),
    ],
)
def test_what_can_not_be_used_is_told_by_name(
    shapes: dict[str, tuple[int, ...]], words: str
) -> None:
    found = detect(shapes)
    assert found is not None
    assert words in (found.refusal or "")


PARTS = st.sampled_from(
    ["lora_unet_", "attn2_to_k", ".lora_down.weight", ".lokr_w1", ".lokr_w2_b", ".hada_w1_b", ".",
     "emb_params", "clip_l", "decoder.conv_in.weight", "input_hint_block.0.weight", "text_encoder_2",
     "text_model_encoder_layers_0_self_attn_q_proj", "conv_first.weight", "x"]
)  # fmt: skip


@given(
    st.dictionaries(
        st.lists(PARTS, max_size=3).map("".join),
        st.lists(st.integers(0, 4096), max_size=5).map(tuple),
        max_size=4,
    )
)
def test_no_header_is_an_error(shapes: dict[str, tuple[int, ...]]) -> None:
    found = detect(shapes)
    assert found is None or found.kind in ModelKind


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"": ()},
        {"x": (1,)},
        {"conv_first.weight": (64, 5, 3, 3)},
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
         "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)},
        {"model.layers.0.self_attn.k_proj.weight": (9, 9), "lm_head.weight": (9, 9)},
    ],
)  # fmt: skip
def test_base_models_and_strangers_are_left_to_others(shapes: dict[str, tuple[int, ...]]) -> None:
    assert detect(shapes) is None
