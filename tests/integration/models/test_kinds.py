from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.adapters.models import FolderModelCatalog
from sfumato.adapters.models.extras import describe_extra
from sfumato.core.checkpoints import SafetensorsHeader, TensorSpec
from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.kinds import FoundKind
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from tests.support.model_files import (
    CONTROLNET,
    EMBEDDING,
    LORA,
    LORA_XL,
    SD1,
    SD2,
    UPSCALER,
    VAE,
    write_component,
    write_folder,
    write_safetensors,
)


def by_key(*folders: Path) -> dict[tuple[str, str], ModelInfo]:
    return {(model.kind.value, model.name): model for model in FolderModelCatalog(folders).list()}


def test_a1111s_own_folders_are_read_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "stable-diffusion-webui"
    write_safetensors(root / "models/Stable-diffusion/photo.safetensors", SD1)
    write_safetensors(root / "models/Lora/ink.safetensors", LORA)
    write_safetensors(root / "models/Lora/styles/photo.safetensors", LORA_XL)
    write_safetensors(root / "models/VAE/clear.vae.safetensors", VAE)
    write_safetensors(root / "models/ControlNet/canny.safetensors", CONTROLNET)
    write_safetensors(root / "models/ESRGAN/ultra.safetensors", UPSCALER)
    write_safetensors(root / "models/ESRGAN/other.safetensors", {"some.layer": [2]})
    write_safetensors(root / "embeddings/bad-hands-5.safetensors", EMBEDDING)
    for name in ("models/Lora/old.pt", "models/ESRGAN/4x.pth", "models/VAE/x.vae.pt"):
        (root / name).write_bytes(b"\x80\x04 not to be read")
    (root / "embeddings/easy.pt").write_bytes(b"\x80\x04")
    (root / "config.json").write_text('{"samples_save": true}')
    (root / "venv/lib").mkdir(parents=True)
    (root / "venv/pyvenv.cfg").write_text("")
    (root / "venv/lib/precedence.pth").write_bytes(b"import os")
    found = by_key(root)
    assert {key: (model.family, model.refusal is None) for key, model in found.items()} == {
        ("base", "photo"): ("sd1", True),
        ("lora", "ink"): ("sd1", True),
        ("lora", "photo"): ("sdxl", True),
        ("lora", "old"): ("", False),
        ("vae", "clear.vae"): ("", True),
        ("vae", "x.vae"): ("", False),
        ("controlnet", "canny"): ("sd1", True),
        ("upscaler", "ultra"): ("", True),
        ("upscaler", "other"): ("", True),
        ("upscaler", "4x"): ("", False),
        ("embedding", "bad-hands-5"): ("sd1", True),
        ("embedding", "easy"): ("", False),
    }


def test_the_header_decides_and_the_folder_only_where_it_does_not_tell(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "Lora/clear.safetensors", VAE)
    write_safetensors(tmp_path / "Lora/photo.safetensors", SD1)
    write_safetensors(tmp_path / "Lora/what.safetensors", {"x": [1]})
    (tmp_path / "Lora/cut.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    found = by_key(tmp_path)
    assert set(found) == {("vae", "clear"), ("base", "photo"), ("lora", "what"), ("lora", "cut")}
    assert "no LoRA that this engine knows" in (found["lora", "what"].refusal or "")


def test_folders_of_one_network_as_diffusers_saves_them(tmp_path: Path) -> None:
    net = {"_class_name": "ControlNetModel", "cross_attention_dim": 2048}
    write_component(tmp_path / "a/canny", net, weights="diffusion_pytorch_model.safetensors")
    vae = {"_class_name": "AutoencoderKL", "scaling_factor": 0.13025, "latent_channels": 4}
    write_component(tmp_path / "vae", vae, weights="diffusion_pytorch_model.fp16.safetensors")
    checker = {"architectures": ["StableDiffusionSafetyChecker"]}
    write_component(tmp_path / "checker", checker, weights="model.safetensors")
    (tmp_path / "checker/preprocessor_config.json").write_text("{}")
    llm = {"architectures": ["LlamaForCausalLM"]}
    write_component(tmp_path / "llm", llm, weights="model.safetensors")
    pickled = write_component(tmp_path / "old", net, weights="x.safetensors")
    (pickled / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    wide = {"_class_name": "AutoencoderKL", "latent_channels": 16}
    write_component(tmp_path / "wide", wide, weights="diffusion_pytorch_model.safetensors")
    found = by_key(tmp_path)
    assert {key: model.family for key, model in found.items() if model.refusal is None} == {
        ("controlnet", "canny"): "sdxl",
        ("vae", "vae"): "sdxl",
        ("safety", "checker"): "",
    }
    assert "LlamaForCausalLM" in (found["base", "llm"].refusal or "")
    assert "is a pickle" in (found["controlnet", "old"].refusal or "")
    assert "16 channels" in (found["vae", "wide"].refusal or "")
    canny, checked = found["controlnet", "canny"], found["safety", "checker"]
    assert canny.layout is ModelLayout.DIFFUSERS
    assert canny.path == str(tmp_path / "a/canny")
    assert {file.path for file in canny.files} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert "preprocessor_config.json" in {file.path for file in checked.files}


def test_names_are_unique_within_a_kind_and_the_default_is_a_base_model(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "Lora/a/photo.safetensors", LORA)
    write_safetensors(tmp_path / "Lora/b/photo.safetensors", LORA_XL)
    write_safetensors(tmp_path / "VAE/photo.safetensors", VAE)
    catalogue = FolderModelCatalog([tmp_path])
    with pytest.raises(UnknownModel, match="no model yet"):
        catalogue.get(None)
    write_folder(tmp_path / "photo")
    write_safetensors(tmp_path / "zebra.safetensors", SD2)
    catalogue._look()
    assert catalogue.get(None).kind is ModelKind.BASE
    assert catalogue.get("photo", ModelKind.LORA).family == "sd1"
    assert catalogue.get("photo-2", ModelKind.LORA).family == "sdxl"
    assert catalogue.get("photo", ModelKind.VAE).kind is ModelKind.VAE
    assert catalogue.get("photo").layout is ModelLayout.DIFFUSERS
    with pytest.raises(UnknownModel, match=r"no LoRA 'fotos'\. Did you mean 'photo'"):
        catalogue.get("fotos", ModelKind.LORA)
    with pytest.raises(UnknownModel):
        catalogue.get("zebra", ModelKind.LORA)


def test_what_a_loras_author_wrote_is_told(tmp_path: Path) -> None:
    tags = {"10_ink": {"ink wash": 40, "castle": 3}, "5_more": {"ink wash": 2, "river": 9}}
    told = {"ss_output_name": "Ink_Wash_v2", "ss_tag_frequency": json.dumps(tags)}
    write_safetensors(tmp_path / "ink.safetensors", LORA, metadata=told)
    (tmp_path / "ink.json").write_text('{"activation text": "ink wash", "preferred weight": 0.8}')
    spec = {"modelspec.title": "Dark", "modelspec.description": "Night.", "ss_tag_frequency": "["}
    write_safetensors(tmp_path / "dark.safetensors", LORA_XL, metadata=spec)
    found = by_key(tmp_path)
    ink, dark = found["lora", "ink"], found["lora", "dark"]
    assert ink.title == "Ink_Wash_v2"
    assert ink.description == "Trained with: ink wash, river, castle. Activation text: ink wash."
    assert ink.memory_bytes == 2 * (2 * 768 + 4 * 2)
    assert (dark.title, dark.description) == ("Dark", "Night.")


def test_a_folder_with_settings_of_another_program_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"samples_save": true}')
    write_safetensors(tmp_path / "model-v2.safetensors", SD1)
    write_safetensors(tmp_path / "ink.safetensors", LORA)
    assert set(by_key(tmp_path)) == {("base", "model-v2"), ("lora", "ink")}


@given(
    st.dictionaries(
        st.sampled_from(
            ["ss_tag_frequency", "modelspec.title", "modelspec.architecture", "ss_output_name"]
        ),
        st.text(max_size=20)
        | st.sampled_from(
            ['{"a": {"b": Infinity}}', '{"a": 1}', "[[]]", "None", '{"a": {"b": "x"}}']
        ),
    )
)
def test_whatever_an_author_wrote_the_lora_is_listed(told: dict[str, str]) -> None:
    tensors = {name: TensorSpec("F16", tuple(shape)) for name, shape in LORA.items()}
    header = SafetensorsHeader(tensors, told, b"")
    info = ModelInfo("ink", "sd", ModelLayout.CHECKPOINT, "")
    described = describe_extra(info, header, FoundKind(ModelKind.LORA, "sd1"), "Lora/ink")
    assert (described.name, described.family, described.refusal) == ("ink", "sd1", None)
    assert described.title


def test_names_that_every_program_gives_are_those_of_the_folder(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "ink/pytorch_lora_weights.safetensors", LORA)
    assert set(by_key(tmp_path)) == {("lora", "ink")}


def test_a_lora_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ink.safetensors"
    write_safetensors(path, LORA)
    catalogue = FolderModelCatalog([tmp_path])
    catalogue.list()
    write_safetensors(path, LORA_XL)
    assert catalogue.get("ink", ModelKind.LORA).family == "sdxl"
    path.rename(path.with_suffix(".pt"))
    catalogue._look()
    with pytest.raises(ModelRefused, match="a pickle"):
        catalogue.get("ink", ModelKind.EMBEDDING)
