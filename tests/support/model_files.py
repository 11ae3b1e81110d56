"""Models that are small, and whole as far as a catalogue can tell. Their weights are zeros."""

from __future__ import annotations

import json
import struct
from pathlib import Path

SD1 = {
    "model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3],
    "first_stage_model.decoder.conv_in.weight": [1],
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": [1],
}
SD2 = {**dict(list(SD1.items())[:2]), "cond_stage_model.model.ln_final.weight": [1]}
LORA = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": [
        2,
        768,
    ],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": [4, 2],
}
LORA_XL = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": [2, 2048],
}
EMBEDDING = {"emb_params": [3, 768]}
VAE = {"decoder.conv_in.weight": [8, 4, 3, 3]}
CONTROLNET = {
    "control_model.input_hint_block.0.weight": [4, 3, 3, 3],
    "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [4, 768],
}
UPSCALER = {"conv_first.weight": [8, 3, 3, 3], "body.0.rdb1.conv1.weight": [4, 8, 3, 3]}


def write_safetensors(
    path: Path,
    shapes: dict[str, list[int]],
    *,
    fill: bytes = b"\0",
    metadata: dict[str, str] | None = None,
) -> None:
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + fill * end)


def write_folder(
    folder: Path, *, pipeline: str = "StableDiffusionPipeline", width: int = 768, **unet: object
) -> Path:
    """A folder that names no scheduler and no tokenizer, so that it needs none."""
    configs = {
        "model_index.json": {"_class_name": pipeline},
        "unet/config.json": {"sample_size": 64, "cross_attention_dim": width, **unet},
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "text_encoder/config.json": {},
    }
    for name, content in configs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for part in ("unet", "vae", "text_encoder"):
        write_safetensors(folder / part / "model.safetensors", {"x": [2]})
    return folder


def write_whole_folder(folder: Path, *, weights: int = 2, fill: bytes = b"\0") -> Path:
    """A folder as diffusers saves one, with two numbers beside ``weights`` in its network."""
    write_folder(folder)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    for name in ("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    write_safetensors(folder / "unet/model.safetensors", {"x": [weights]}, fill=fill)
    return folder


def write_component(folder: Path, config: dict[str, object], *, weights: str) -> Path:
    """One network, as diffusers saves it. ``weights``: the name of its file."""
    write_safetensors(folder / weights, {"x": [2]})
    (folder / "config.json").write_text(json.dumps(config))
    return folder
