"""Prompts in the engine: every syntax of A1111 changes the picture as it should, and nothing else."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.errors import EngineFailure, InvalidRequest
from sfumato.core.models import settle
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.network import NetworkInput
from sfumato.engine.prompts import MAX_CHUNKS, PromptEncoder
from sfumato.engine.rows import Rows
from sfumato.engine.slots import DiffusionSlot
from tests.support.tiny_models import SCHEDULER, TinyModel
from tests.support.tolerances import SAME


def admit(engine: DiffusionEngine, model: TinyModel, prompt: str, **fields) -> DiffusionSlot:
    plain = GenerationRequest("plain", **{"seed": 7, "sampler": "euler", **fields})
    settings = settle(plain, model.info, random_seed=0)
    request = GenerationRequest(prompt, **{"seed": 7, "sampler": "euler", **fields})
    return engine.admit(ImageTask("job", 0, request, settings, model.info))


def end(engine: DiffusionEngine, *slots: DiffusionSlot) -> Tensor:
    """The latents of the first slot when all are done."""
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        engine.step(under_way)
    return slots[0].latents


def drawn(engine: DiffusionEngine, model: TinyModel, prompt: str, **fields) -> Tensor:
    return end(engine, admit(engine, model, prompt, **fields))


@pytest.fixture
def encoder(engine: DiffusionEngine, sd1: TinyModel) -> PromptEncoder:
    return engine._models[sd1.info.name].model.prompts


@torch.inference_mode()
def test_a_plain_prompt_is_what_the_network_says_of_it(
    encoder: PromptEncoder, sd1: TinyModel
) -> None:
    text = "a castle, at night; 3 dogs"
    ids = encoder._tokenizer.frame(encoder._tokenizer.encode(text), 77)
    expected = encoder._encoders[0].network(input_ids=torch.tensor([ids])).last_hidden_state[0]
    both = encoder.encode([text, "something else"])
    assert torch.equal(both[0].tokens, expected)
    assert torch.equal(encoder.encode(["(a castle:1), at night; 3 dogs"])[0].tokens, expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_clip_skip_takes_an_earlier_layer_as_diffusers_does(
    engine: DiffusionEngine,
    encoder: PromptEncoder,
    sd1: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Diffusers looks for the final norm where transformers 4 had it.
    monkeypatch.setitem(sd1.text.__dict__, "text_model", sd1.text)
    pipeline = StableDiffusionPipeline(
        vae=sd1.vae,
        text_encoder=sd1.text,
        tokenizer=CLIPTokenizer.from_pretrained(sd1.path / "tokenizer", local_files_only=True),
        unet=sd1.unet,
        scheduler=DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with torch.inference_mode():
        # Diffusers counts the layers left out.
        theirs, _ = pipeline.encode_prompt("a castle", "cpu", 1, False, clip_skip=1)
        ours = encoder.encode(["a castle"], 2)[0].tokens
    torch.testing.assert_close(ours, theirs[0], rtol=1e-5, atol=1e-5)
    assert not torch.equal(
        drawn(engine, sd1, "a castle"), drawn(engine, sd1, "a castle", clip_skip=2)
    )
    with pytest.raises(InvalidRequest, match="2 layers") as refused:
        admit(engine, sd1, "a castle", clip_skip=3)
    assert refused.value.field == "clip_skip"


@torch.inference_mode()
def test_weights_scale_the_embeddings_and_the_mean_stays(encoder: PromptEncoder) -> None:
    plain, weighed = (text.tokens for text in encoder.encode(["a castle", "a (castle:1.5)"]))
    scaled = plain.clone()
    scaled[2] *= 1.5  # after the start and "a"
    torch.testing.assert_close(weighed, scaled * (plain.mean() / scaled.mean()))
    torch.testing.assert_close(weighed.mean(), plain.mean(), rtol=1e-3, atol=1e-6)
    (nothing,) = encoder.encode(["(a castle:0)"])
    assert nothing.tokens.isfinite().all()


def test_the_last_word_of_a_long_prompt_matters(engine: DiffusionEngine, sd1: TinyModel) -> None:
    begin = "a very old castle on a hill, " * 20
    slots = [admit(engine, sd1, begin + word) for word in ("cats", "ships")]
    assert slots[0].conditioning.tokens == 3 * 77
    assert slots[0].notes == ()
    assert not torch.equal(end(engine, slots[0]), end(engine, slots[1]))


def test_prompt_and_negative_one_are_filled_up_to_equal_chunks(
    engine: DiffusionEngine, encoder: PromptEncoder, sd1: TinyModel
) -> None:
    long = "tree, " * 60
    slot = admit(engine, sd1, "a castle", negative_prompt=long)
    (empty,) = encoder.encode([""])
    embeddings = slot.conditioning.prompts[0].at(0).tokens
    assert embeddings.shape[0] == slot.conditioning.tokens == 2 * 77
    assert torch.equal(embeddings[77:], empty.tokens)
    short = admit(engine, sd1, "a castle")
    assert short.batch_key != slot.batch_key
    with pytest.raises(EngineFailure, match="batch key"):
        engine.step([slot, short])
    end(engine, slot, admit(engine, sd1, "a hill BREAK at night"))


def test_break_begins_a_chunk(engine: DiffusionEngine, encoder: PromptEncoder) -> None:
    texts = encoder.encode(["a castle BREAK night", "a castle", "night"])
    whole, first, second = (text.tokens for text in texts)
    assert torch.equal(whole, torch.cat([first, second]))


def test_a_prompt_changes_after_its_step(engine: DiffusionEngine, sd1: TinyModel) -> None:
    changing, castle = (
        admit(engine, sd1, prompt) for prompt in ("a [castle:dragon:0.5]", "a castle")
    )
    for _ in range(2):
        engine.step([changing])
        engine.step([castle])
    assert torch.equal(changing.latents, castle.latents)
    assert not torch.equal(end(engine, changing), end(engine, castle))
    assert torch.equal(drawn(engine, sd1, "a [castle:dragon:0]"), drawn(engine, sd1, "a dragon"))
    negative = [
        drawn(engine, sd1, "a castle", negative_prompt=text) for text in ("[:night:3]", "", "night")
    ]
    assert not torch.equal(negative[0], negative[1])
    assert not torch.equal(negative[0], negative[2])


def test_a_prompt_alternates(engine: DiffusionEngine, sd1: TinyModel) -> None:
    slot = admit(engine, sd1, "a [castle|dragon|sea]", num_inference_steps=20)
    (prompt,) = slot.conditioning.prompts
    assert len(prompt.distinct) == 3
    assert prompt.choice == (0, 1, 2) * 6 + (0, 1)
    end(engine, slot)


def test_prompts_joined_by_and_steer_by_their_weights(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    slot = admit(engine, sd1, "a castle AND a dragon :0.5", guidance_scale=3)
    assert slot.rows == 3
    assert (slot.conditioning.weights, slot.conditioning.scale) == ((1.0, 0.5), 3.0)
    noise, answers = slot.latents, {}
    model = engine._models[sd1.info.name].model
    with torch.inference_mode():
        for text in ("a castle", "a dragon", ""):
            tokens = model.prompts.encode([text])[0].tokens[None]
            given = NetworkInput(noise[None], torch.tensor([999.0]), tokens)
            answers[text] = model.predict(given)
    none = answers[""]
    wanted = none + 3 * (answers["a castle"] - none) + 1.5 * (answers["a dragon"] - none)
    rows = Rows([slot.conditioning], torch.device("cpu"))
    stacked = torch.cat([answers["a castle"], answers["a dragon"], none])
    torch.testing.assert_close(rows.combine(stacked), wanted, rtol=1e-5, atol=1e-5)
    alone = end(engine, slot)
    plain = drawn(engine, sd1, "a castle")
    assert not torch.allclose(alone, plain, atol=1e-2)
    nothing_more = drawn(engine, sd1, "a castle AND a dragon :0")
    torch.testing.assert_close(nothing_more, plain, rtol=SAME, atol=SAME)


def test_several_prompts_need_the_negative_one_even_without_guidance(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    slot = admit(engine, sd1, "a castle AND a dragon", guidance_scale=1)
    assert (slot.rows, slot.conditioning.scale) == (3, 1.0)
    halves = drawn(engine, sd1, "a castle :0.5 AND a castle :0.5", guidance_scale=1)
    plain = drawn(engine, sd1, "a castle", guidance_scale=1)
    torch.testing.assert_close(halves, plain, rtol=SAME, atol=SAME)


def test_slots_of_all_prompts_share_steps_and_end_as_alone(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    kinds = [
        ("a castle", {}),
        ("a castle AND a dragon :0.7 AND a sea :-0.3", {"num_inference_steps": 6}),
        ("a [castle|dragon]", {"guidance_scale": 1}),
        ("a [castle:dragon:2] AND [a:the:1] sea", {"negative_prompt": "[night:day:3]"}),
        ("(a:1.4) ((castle)) [hill]", {"num_inference_steps": 3}),
    ]
    slots = [admit(engine, sd1, prompt, **fields) for prompt, fields in kinds]
    engine.step(slots[:3])
    end(engine, *slots)
    for (prompt, fields), slot in zip(kinds, slots, strict=True):
        alone = drawn(engine, sd1, prompt, **fields)
        torch.testing.assert_close(slot.latents, alone, rtol=SAME, atol=SAME)


def test_what_comes_again_is_not_encoded_again(encoder: PromptEncoder) -> None:
    with torch.inference_mode():
        first, empty = encoder.encode(["a castle", ""])
        again, other = encoder.encode(["a castle", "a dragon"])
        assert again is first
        assert encoder.encode(["a castle"], 2)[0] is not first
        for n in range(40):
            encoder.encode([f"{n} " + "tree " * 75 * 15])
            assert encoder.encode([""])[0] is empty
        assert encoder.encode(["a castle"])[0] is not first
        assert torch.equal(encoder.encode(["a castle"])[0].tokens, first.tokens)
    assert not torch.equal(other.tokens, first.tokens)
    kept = sum(text.tokens.shape[0] // 77 for text in encoder._cache.values())
    assert kept == encoder._cached_chunks <= 512


def test_a_prompt_without_end_fails_alone_and_says_what_would_be_right(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    well = admit(engine, sd1, "a castle")
    with pytest.raises(InvalidRequest, match=f"{MAX_CHUNKS + 1} chunks of 75 tokens"):
        admit(engine, sd1, "BREAK " * MAX_CHUNKS + "a")
    many = "".join(f"[{'|'.join('abcdefghijk'[:n])}]" for n in (2, 3, 5, 7, 11))
    with pytest.raises(InvalidRequest, match="change with the step"):
        admit(engine, sd1, many + "tree " * 400, num_inference_steps=150)
    # A job of before the service knew what to refuse.
    with pytest.raises(InvalidRequest, match=r"<hypernet:ink:0\.8>"):
        admit(engine, sd1, "a castle <hypernet:ink:0.8>")
    assert end(engine, well).isfinite().all()
