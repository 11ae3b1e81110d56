"""What the catalogue makes of each family: its name, its native size and its usual settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfumato.adapters.models import FolderModelCatalog
from sfumato.core.models import ModelDefaults, ModelInfo
from tests.support.model_files import write_folder, write_safetensors

VAE = {"first_stage_model.decoder.conv_in.weight": [1]}
CLIP = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
XL = ["conditioner.embedders.0.transformer.text_model.x", "conditioner.embedders.1.model.x"]
REFINER = ["conditioner.embedders.0.model.x"]


def described(folder: Path) -> ModelInfo:
    (model,) = FolderModelCatalog([folder]).list()
    return model


def write_checkpoint(path: Path, text: list[str], *, channels: int = 4) -> None:
    unet = {"model.diffusion_model.input_blocks.0.0.weight": [320, channels, 3, 3]}
    write_safetensors(path, {**unet, **VAE, **{name: [1] for name in text}})


def write_xl(folder: Path, *, refiner: bool = False, **unet: object) -> Path:
    """A folder of both text encoders, or, of SDXL's refiner, the second alone."""
    write_folder(folder, width=1280 if refiner else 2048, **{"sample_size": 128, **unet})
    index = {
        "_class_name": f"StableDiffusionXL{'Img2Img' if refiner else ''}Pipeline",
        "text_encoder": [None, None] if refiner else ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": [None, None] if refiner else ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    if refiner:
        for file in (folder / "text_encoder").iterdir():
            file.unlink()
    for name in ["tokenizer_2"] if refiner else ["tokenizer", "tokenizer_2"]:
        (folder / name).mkdir()
        (folder / name / "tokenizer.json").write_text("{}")
    (folder / "text_encoder_2").mkdir()
    (folder / "text_encoder_2/config.json").write_text("{}")
    write_safetensors(folder / "text_encoder_2/model.safetensors", {"x": [2]})
    return folder


@pytest.mark.parametrize(("refiner", "family"), [(False, "sdxl"), (True, "sdxl_refiner")])
def test_a_folder_of_sdxl_is_whole_with_the_text_encoders_that_its_index_names(
    tmp_path: Path, refiner: bool, family: str
) -> None:
    folder = write_xl(tmp_path / "big", refiner=refiner)
    model = described(tmp_path)
    assert (model.family, model.refusal) == (family, None)
    assert (model.defaults.width, model.defaults.height) == (1024, 1024)
    copied = {file.path for file in model.files}
    assert {"text_encoder_2/model.safetensors", "tokenizer_2/tokenizer.json"} <= copied
    assert ("text_encoder/model.safetensors" in copied) is not refiner
    (folder / "tokenizer_2/tokenizer.json").unlink()
    (folder / "text_encoder_2/model.safetensors").unlink()
    refusal = described(tmp_path).refusal or ""
    assert "text_encoder_2/*.safetensors" in refusal
    assert "tokenizer_2/" in refusal


@pytest.mark.parametrize(
    ("name", "text", "family", "defaults"),
    [
        ("photo", [CLIP], "sd1", ModelDefaults()),
        ("photo", XL, "sdxl", ModelDefaults(1024, 1024)),
        ("photo", REFINER, "sdxl_refiner", ModelDefaults(1024, 1024)),
        ("sd_xl_turbo_1.0", XL, "sdxl", ModelDefaults(512, 512, 1, 0.0, "euler")),
        ("DreamTurboXL", XL, "sdxl", ModelDefaults(1024, 1024, 1, 0.0, "euler")),
        (
            "sdxl_lightning_4step",
            XL,
            "sdxl",
            ModelDefaults(1024, 1024, 4, 0.0, "euler_trailing"),
        ),
        ("JuggernautLightning", XL, "sdxl", ModelDefaults(1024, 1024, 8, 0.0, "euler_trailing")),
    ],
)
def test_a_checkpoint_has_its_familys_size_and_its_kinds_settings(
    tmp_path: Path, name: str, text: list[str], family: str, defaults: ModelDefaults
) -> None:
    write_checkpoint(tmp_path / f"{name}.safetensors", text)
    model = described(tmp_path)
    assert (model.family, model.refusal, model.defaults) == (family, None, defaults)


@pytest.mark.parametrize("text", [[CLIP], XL])
def test_inpainting_models_are_taken_and_editing_ones_refused(
    tmp_path: Path, text: list[str]
) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, text, channels=9)
    assert described(tmp_path).refusal is None
    write_checkpoint(path, text, channels=8)
    assert "8 channels" in (described(tmp_path).refusal or "")


def test_sdxls_memory_counts_a_vae_of_single_precision(tmp_path: Path) -> None:
    write_xl(tmp_path / "big")
    numbers = 2 * 4  # in each of the networks that the tests write
    assert described(tmp_path).memory_bytes == numbers * 2 + 1024 * 1024 * 6144 + (512 << 20)


def test_a_folder_for_inpainting_is_taken(tmp_path: Path) -> None:
    write_folder(tmp_path / "inpaint", pipeline="StableDiffusionInpaintPipeline", in_channels=9)
    model = described(tmp_path)
    assert (model.family, model.refusal) == ("sd1", None)
