"""LoRAs per slot end where the same weights merged into a copy of the model do, and leave nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.extras import LoraUse
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism
from sfumato.engine.admission import admit
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support import lora_files
from tests.support.lora_files import Maker, file_for
from tests.support.rendering import render, task_of
from tests.support.tiny_models import TinyModel, tiny_info
from tests.support.tolerances import SAME

_ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"
UNET_LAYERS = (
    *(f"{_ATTENTION}.attn1.to_q", f"{_ATTENTION}.attn2.to_k", f"{_ATTENTION}.attn2.to_v"),
    *(f"{_ATTENTION}.attn1.to_out.0", f"{_ATTENTION}.ff.net.0.proj", "conv_in"),
    *("down_blocks.0.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv"),
    *("mid_block.resnets.0.time_emb_proj", "up_blocks.1.attentions.1.proj_in"),
)
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc2")


def unet_layers(model: TinyModel) -> dict[str, nn.Module]:
    return {f"unet.{name}": model.unet.get_submodule(name) for name in UNET_LAYERS}


def text_layers(model: TinyModel) -> dict[str, nn.Module]:
    network = getattr(model.text, "text_model", model.text)
    return {f"text_encoder.text_model.{name}": network.get_submodule(name) for name in TEXT_LAYERS}


def with_extras(task: ImageTask, *extras: ModelInfo) -> ImageTask:
    return replace(task, extras=extras)


def uses(*named: tuple[ModelInfo, float]) -> tuple[LoraUse, ...]:
    return tuple(LoraUse(info.name, weight) for info, weight in named)


def lora_task(model: TinyModel, *named: tuple[ModelInfo, float], **fields: object) -> ImageTask:
    task = task_of(model.info, loras=uses(*named), **fields)
    return with_extras(task, *(info for info, _ in named))


def finish(engine: DiffusionEngine, *tasks: ImageTask) -> list[DiffusionSlot]:
    slots = [engine.admit(task) for task in tasks]
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        engine.step(under_way)
    return slots


def merged_model(
    model: TinyModel, folder: Path, merged: Mapping[str, Tensor], weight: float
) -> ModelInfo:
    """A copy whose weights are changed for good."""
    changed = {name.removeprefix("text_encoder.text_model."): t for name, t in merged.items()}
    changed = {name.removeprefix("unet."): tensor for name, tensor in changed.items()}
    text = getattr(model.text, "text_model", model.text)
    originals = {
        name: layer.weight.detach().clone()
        for network in (model.unet, text)
        for name, layer in network.named_modules()
        if name in changed
    }
    assert set(originals) == set(changed)
    layers = {
        name: layer
        for network in (model.unet, text)
        for name, layer in network.named_modules()
        if name in changed
    }
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight += weight * (changed[name] - originals[name])
    path = folder / "merged"
    for part in ("tokenizer", "scheduler"):
        (path / part).mkdir(parents=True)
        for file in (model.path / part).iterdir():
            (path / part / file.name).write_bytes(file.read_bytes())
    for part, network in (("unet", model.unet), ("vae", model.vae), ("text_encoder", model.text)):
        network.save_pretrained(path / part)
    (path / "model_index.json").write_bytes((model.path / "model_index.json").read_bytes())
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(originals[name])
    return tiny_info(path, model.info.family)


KINDS: tuple[Maker, ...] = (
    *(lora_files.lora, lora_files.loha, lora_files.lokr_factored, lora_files.full),
    *(lora_files.ia3_outputs, lora_files.dora_outputs),
)


@pytest.mark.parametrize("maker", KINDS, ids=lambda maker: maker.__name__)
def test_it_draws_what_a_model_with_merged_weights_draws(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path, maker: Maker
) -> None:
    layers = {**unet_layers(sd1), **text_layers(sd1)}
    info, merged = file_for(tmp_path / "style.safetensors", layers, maker)
    copy = merged_model(sd1, tmp_path, merged, 0.5)
    engine.load(copy)
    (found,) = finish(engine, lora_task(sd1, (info, 0.5)))
    (wanted,) = finish(engine, task_of(copy))
    (plain,) = finish(engine, task_of(sd1.info))
    torch.testing.assert_close(found.latents, wanted.latents, rtol=SAME, atol=SAME)
    assert not torch.allclose(found.latents, plain.latents, atol=1e-2)
    assert found.notes == ()


def test_pictures_of_different_loras_share_steps_and_end_as_alone(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    style, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    other = {**unet_layers(sd1), **text_layers(sd1)}
    cat, _ = file_for(tmp_path / "cat.safetensors", other, lora_files.loha, seed=4)
    tasks = [
        lora_task(sd1, (style, 1.0), num_inference_steps=3),
        lora_task(sd1, (cat, 0.7), num_inference_steps=5, guidance_scale=1),
        lora_task(sd1, (style, -0.5), (cat, 1.2)),
        task_of(sd1.info, prompt="a tower"),
        lora_task(sd1, (style, 0.3), num_inference_steps=3),
    ]
    together = finish(engine, *tasks)
    for task, slot in zip(tasks, together, strict=True):
        (alone,) = finish(engine, task)
        torch.testing.assert_close(slot.latents, alone.latents, rtol=SAME, atol=SAME)


def test_slots_without_any_are_the_same_bytes_beside_those_with_and_after_them(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    style, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    plain, other = task_of(sd1.info), task_of(sd1.info, prompt="a sea")
    before, _ = finish(engine, plain, other)
    beside, _ = finish(engine, plain, lora_task(sd1, (style, 1.0), prompt="a sea"))
    after, _ = finish(engine, plain, other)
    assert torch.equal(before.latents, beside.latents)
    assert torch.equal(before.latents, after.latents)


def test_a_strict_picture_is_the_same_bytes_in_any_company(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    style, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    cat, _ = file_for(tmp_path / "cat.safetensors", unet_layers(sd1), lora_files.lokr, seed=4)
    task = lora_task(sd1, (style, 0.8), determinism=Determinism.STRICT)
    (alone,) = finish(engine, task)
    companies: list[ImageTask] = [
        lora_task(sd1, (style, 0.8), seed=3, determinism=Determinism.STRICT),
        lora_task(sd1, (cat, 1.0), seed=3, determinism=Determinism.STRICT),
        task_of(sd1.info, seed=3, determinism=Determinism.STRICT),
    ]
    for company in companies:
        for tasks in ([task, company], [company, task]):
            slots = finish(engine, *tasks)
            assert torch.equal(slots[tasks.index(task)].latents, alone.latents)


def test_a_weight_of_nothing_is_no_lora_and_two_halves_are_one(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    style, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    nothing, plain = lora_task(sd1, (style, 0.0)), task_of(sd1.info)
    assert torch.equal(finish(engine, nothing)[0].latents, finish(engine, plain)[0].latents)
    halves = lora_task(sd1, (style, 0.5), (style, 0.5))
    whole = lora_task(sd1, (style, 1.0))
    assert torch.equal(finish(engine, halves)[0].latents, finish(engine, whole)[0].latents)


def test_one_named_in_the_prompt_is_that_of_the_field(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    layers = {**unet_layers(sd1), **text_layers(sd1)}
    style, _ = file_for(tmp_path / "style.safetensors", layers)
    named = with_extras(task_of(sd1.info, "a castle <lora:style:0.5>"), style)
    (found,), (wanted,) = finish(engine, named), finish(engine, lora_task(sd1, (style, 0.5)))
    assert torch.equal(found.latents, wanted.latents)


def test_in_half_precision_it_ends_near_and_is_precise_where_that_is_asked_for(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    style, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    task = lora_task(sd1, (style, 0.5))
    (wanted,) = finish(engine, task)
    narrow = DiffusionEngine("cpu", "bfloat16", threads=1)
    narrow.load(sd1.info)
    (near,) = finish(narrow, task)
    difference = (near.latents - wanted.latents).abs().mean() / wanted.latents.abs().mean()
    assert 0 < difference < 0.05
    with torch.inference_mode():
        precise = admit(task, narrow._networks, precise=True)
    while precise.step < precise.steps:
        narrow.step([precise])
    torch.testing.assert_close(precise.latents, wanted.latents, rtol=SAME, atol=SAME)


def test_a_resumed_picture_ends_in_the_same_bytes(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    layers = {**unet_layers(sd1), **text_layers(sd1)}
    style, _ = file_for(tmp_path / "style.safetensors", layers)
    task = lora_task(sd1, (style, 0.8), num_inference_steps=5)
    slot = engine.admit(task)
    engine.step([slot])
    engine.step([slot])
    elsewhere = DiffusionEngine("cpu", threads=1)
    elsewhere.load(sd1.info)
    resumed = elsewhere.resume(task, engine.export(slot))
    while resumed.step < resumed.steps:
        engine.step([slot])
        elsewhere.step([resumed])
    assert render(elsewhere, resumed).data == render(engine, slot).data


def test_one_of_another_family_is_refused_and_the_batch_goes_on(
    engine: DiffusionEngine, sd1: TinyModel, sd2: TinyModel, tmp_path: Path
) -> None:
    layers = unet_layers(sd2)
    foreign, _ = file_for(tmp_path / "foreign.safetensors", layers)
    under_way = engine.admit(task_of(sd1.info))
    engine.step([under_way])
    with pytest.raises(ModelRefused, match=r"inputs, .* outputs.*made for another family"):
        engine.admit(lora_task(sd1, (foreign, 1.0)))
    flux, _ = file_for(
        tmp_path / "flux.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": nn.Linear(4, 4)}
    )
    with pytest.raises(ModelRefused, match="none of the layers"):
        engine.admit(lora_task(sd1, (flux, 1.0)))
    broken = lora_files.lora_info(tmp_path / "broken.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x80\x04 a pickle, or whatever")
    with pytest.raises(ModelUnusable):
        engine.admit(lora_task(sd1, (broken, 1.0)))
    while under_way.step < under_way.steps:
        engine.step([under_way])
    (alone,) = finish(engine, task_of(sd1.info))
    assert torch.equal(under_way.latents, alone.latents)


def test_what_a_model_has_no_use_for_is_said(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    layers = {
        **unet_layers(sd1),
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj": nn.Linear(4, 4),
    }
    info, _ = file_for(tmp_path / "both.safetensors", layers)
    slot = engine.admit(lora_task(sd1, (info, 1.0)))
    (note,) = slot.notes
    assert "1 of its 11 layers" in note
    assert "text_encoder_2" in note


def test_norms_and_bundled_embeddings_are_left_aside_and_said(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    info, _ = file_for(tmp_path / "style.safetensors", unet_layers(sd1))
    tensors = load_file(info.path)
    more = {
        "lora_unet_conv_norm_out.w_norm": torch.ones(32),
        "lora_unet_conv_norm_out.b_norm": torch.ones(32),
        "bundle_emb.cat.string_to_param.*": torch.ones(1, 64),
    }
    path = tmp_path / "more" / "style.safetensors"
    path.parent.mkdir()
    save_file(tensors | more, path)
    slot = engine.admit(lora_task(sd1, (lora_files.lora_info(path), 1.0)))
    assert slot.notes == (
        "what the LoRA 'style' changes in norms was left aside",
        "the embeddings inside the LoRA 'style' were left aside",
    )


def test_the_text_encoders_weight_is_its_own(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    layers = {**unet_layers(sd1), **text_layers(sd1)}
    info, _ = file_for(tmp_path / "style.safetensors", layers)

    def of(use: LoraUse) -> Tensor:
        task = with_extras(task_of(sd1.info, loras=(use,)), info)
        return engine.admit(task).conditioning.prompts[0].at(0).tokens

    plain = engine.admit(task_of(sd1.info)).conditioning.prompts[0].at(0).tokens
    assert torch.equal(of(LoraUse(info.name, 1.0, 0.0)), plain)
    assert torch.equal(of(LoraUse(info.name, 0.0, 1.0)), of(LoraUse(info.name, 1.0)))
    assert not torch.allclose(of(LoraUse(info.name, 1.0)), plain, atol=1e-3)
