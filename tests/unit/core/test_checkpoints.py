from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.checkpoints import (
    CLIP_PREFIX,
    OPEN_CLIP_PREFIX,
    REFINER_PREFIX,
    XL_CLIP_PREFIX,
    XL_OPEN_CLIP_PREFIX,
    SafetensorsHeader,
    TensorSpec,
    detect_family,
    drawing_weights,
    marked_schedule,
    named_prediction,
    read_header,
)
from sfumato.core.errors import ModelRefused, ModelUnusable


def packed(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WHOLE = packed(
    {
        "b": tensor("F16", [2, 3], 8, 20),
        "__metadata__": {"made": "here"},
        "a": tensor("F32", [2], 0, 8),
        "scalar": tensor("I64", [], 20, 28),
        "empty": tensor("F32", [0, 4], 28, 28),
    },
    bytes(28),
)


def read(data: bytes) -> SafetensorsHeader:
    return read_header(io.BytesIO(data), len(data))


def test_a_whole_file_tells_its_tensors() -> None:
    header = read(WHOLE)
    assert header.tensors["b"] == TensorSpec("F16", (2, 3))
    assert set(header.tensors) == {"a", "b", "scalar", "empty"}
    assert header.metadata == {"made": "here"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no header"),
        (b"PK\x03\x04archive", "no header"),
        (packed(b""), "no header"),
        (packed(b"{nonsense}"), "corrupt"),
        (packed([1, 2]), "corrupt"),
        (packed({"a": 1}), "corrupt"),
        (packed({"a": {"dtype": "F32", "shape": [1]}}), "corrupt"),
        (packed({"a": tensor("F32", [-1], 0, 4)}, bytes(4)), "corrupt"),
        (packed({"a": tensor("F32", [1], 0, 8)}, bytes(8)), "'a'"),
        (packed({"a": tensor("F31", [1], 0, 4)}, bytes(4)), "'a'"),
        (packed({"a": tensor("F32", [1], 4, 8)}, bytes(8)), "'a'"),
        (packed(b"[" * 50_000), "corrupt"),
        (WHOLE + b"more", "corrupt"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        read(data)


@given(st.integers(min_value=8, max_value=len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_truncated(length: int) -> None:
    with pytest.raises(ModelUnusable, match="truncated"):
        read(WHOLE[:length])


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    try:
        read(data)
    except ModelUnusable:
        return
    assert read(data).tensors == {}


def header_of(*names: str, channels: int = 4) -> SafetensorsHeader:
    tensors = {name: TensorSpec("F16", (1,)) for name in names}
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = TensorSpec(
        "F16", (320, channels, 3, 3)
    )
    return SafetensorsHeader(tensors, {}, b"")


VAE = "first_stage_model.decoder.conv_in.weight"


def test_families_are_told_apart_by_their_text_encoder() -> None:
    clip = CLIP_PREFIX + "text_model.final_layer_norm.weight"
    assert detect_family(header_of(VAE, clip)) == "sd1"
    assert detect_family(header_of(VAE, OPEN_CLIP_PREFIX + "ln_final.weight")) == "sd2"
    both = [XL_CLIP_PREFIX + "text_model.x", XL_OPEN_CLIP_PREFIX + "ln_final.weight"]
    assert detect_family(header_of(VAE, *both)) == "sdxl"
    assert detect_family(header_of(VAE, REFINER_PREFIX + "ln_final.weight")) == "sdxl_refiner"
    assert detect_family(header_of(VAE, clip, channels=9)) == "sd1"


def test_the_networks_of_both_text_encoders_draw() -> None:
    header = header_of(VAE, XL_CLIP_PREFIX + "x", REFINER_PREFIX + "x", "model_ema.x", "v_pred")
    assert drawing_weights(header) == 3 + 320 * 4 * 9


def test_marks_of_sdxls_trainers_tell_the_noise_schedule() -> None:
    assert marked_schedule(header_of(VAE)) == {}
    assert marked_schedule(header_of("v_pred", "ztsnr")) == {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (header_of(VAE, XL_CLIP_PREFIX + "x", "edm_vpred.sigma_max"), "CosXL"),
        (header_of(VAE, CLIP_PREFIX + "x", channels=8), "8 channels"),
        (header_of(VAE), "no text encoder"),
        (header_of(CLIP_PREFIX + "x"), "no VAE"),
        (SafetensorsHeader({"lora_unet_x": TensorSpec("F16", (1,))}, {}, b""), "a LoRA"),
        (SafetensorsHeader({"weight": TensorSpec("F16", (1,))}, {}, b""), "no Stable Diffusion"),
        (SafetensorsHeader({}, {}, b""), "no Stable Diffusion"),
    ],
)
def test_other_files_are_refused_by_what_they_are(header: SafetensorsHeader, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        detect_family(header)


@pytest.mark.parametrize(
    ("sidecar", "yaml", "expected"),
    [
        ({}, "", None),
        ({"prediction_type": "v_prediction"}, "", "v_prediction"),
        ({"prediction_type": "nonsense"}, "", None),
        ({}, 'model:\n  params:\n    parameterization: "v"\n    timesteps: 1000', "v_prediction"),
        ({}, "model:\n  params:\n    parameterization: v  # velocity", "v_prediction"),
        ({}, "model:\n  params:\n    timesteps: 1000", "epsilon"),
        ({"prediction_type": "epsilon"}, "parameterization: v", "epsilon"),
    ],
)
def test_a_file_beside_a_checkpoint_may_name_what_it_predicts(
    sidecar: dict[str, str], yaml: str, expected: str | None
) -> None:
    assert named_prediction(sidecar, yaml) == expected
