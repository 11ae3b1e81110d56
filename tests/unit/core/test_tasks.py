"""Tasks of other systems: what each format means, and that nothing in a message leads astray."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.edits import Fill, Inpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import decode_input, read_input
from sfumato.core.job import Job, JobError, JobStatus, Settings
from sfumato.core.request import GenerationRequest
from sfumato.core.tasks import Answer, NotATask, TaskFormat, answer_to, noted, parse_task
from tests.support.png import png

V0 = {
    "sdname": "sdruntime-jobAddon",
    "alwayson_scripts": {
        "task": "text-to-image",
        "sd_model_checkpoint": "v1-5-pruned-emaonly.safetensors",
        "id_task": "307",
        "uid": "u",
    },
    "prompt": "A dog",
    "negative_prompt": "cat",
    "steps": 16,
    "width": 512,
    "height": 768,
    "cfg_scale": 7,
    "seed": -1,
    "sampler_name": "Euler a",
    "n_iter": 2,
    "batch_size": 3,
    "s3_output_path": "bucket/307",
}
V1ALPHA2 = {
    "metadata": {
        "id": "test-t2i",
        "runtime": "sdruntime",
        "tasktype": "text-to-image",
        "prefix": "a/b/",
        "context": {"user": [1]},
    },
    "content": {"prompt": "A dog", "steps": "16", "seed": 0, "alwayson_scripts": {}},
}


def changed(base: dict[str, Any], **changes: Any) -> str:
    """The message with other entries, by path: ``metadata__id``."""
    copy = json.loads(json.dumps(base))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = copy
        for name in above:
            place = place[name]
        place[last] = value
    return json.dumps(copy)


def request_of(text: str) -> GenerationRequest:
    asked = parse_task(text).asked
    assert isinstance(asked, GenerationRequest), asked
    return asked


def refusal_of(text: str) -> InvalidRequest:
    asked = parse_task(text).asked
    assert isinstance(asked, InvalidRequest)
    return asked


def test_v0() -> None:
    task = parse_task(json.dumps(V0))
    assert (task.format, task.id, task.folder) == (TaskFormat.V0, "307", "307")
    assert task.asked == GenerationRequest(
        "A dog",
        negative_prompt="cat",
        model="v1-5-pruned-emaonly",
        width=512,
        height=768,
        num_inference_steps=16,
        guidance_scale=7,
        seed=None,
        num_images=6,
        sampler="euler_a",
        metadata={"id_task": "307"},
    )
    assert not {"alwayson_scripts", "sdname", "s3_output_path"} & task.parameters.keys()


def test_v1alpha1_has_a_folder_of_its_own() -> None:
    task = parse_task(changed(V0, alwayson_scripts__save_dir="outputs"))
    assert (task.format, task.folder) == (TaskFormat.V1ALPHA1, "outputs/307")


@pytest.mark.parametrize("message", [V1ALPHA2, {"task": V1ALPHA2}], ids=["published", "posted"])
def test_v1alpha2(message: dict[str, Any]) -> None:
    task = parse_task(json.dumps(message))
    assert (task.format, task.id, task.folder) == (TaskFormat.V1ALPHA2, "test-t2i", "a/b/test-t2i")
    assert (task.runtime, task.context) == ("sdruntime", {"user": [1]})
    asked = task.asked
    assert isinstance(asked, GenerationRequest)
    assert (asked.num_inference_steps, asked.seed, asked.num_images) == (16, 0, 1)


def test_v1alpha2_names_the_model_where_v1alpha1_does_or_in_the_settings() -> None:
    header = {"sd_model_checkpoint": "sub/model.ckpt [6ce0161689]"}
    assert request_of(changed(V1ALPHA2, content__alwayson_scripts=header)).model == "model"
    override = {"sd_model_checkpoint": "other.safetensors"}
    assert request_of(changed(V1ALPHA2, content__override_settings=override)).model == "other"
    assert request_of(json.dumps(V1ALPHA2)).model is None


PICTURE = base64.b64encode(png(64, 64)).decode()


def test_image_to_image_names_its_pictures_and_does_not_repeat_them() -> None:
    changes = {
        "alwayson_scripts__task": "image-to-image",
        "init_images": [PICTURE],
        "denoising_strength": 0.4,
        "mask": PICTURE,
        "inpainting_fill": 1,
    }
    task = parse_task(changed(V0, **changes))
    assert not {"init_images", "mask"} & task.parameters.keys()
    assert isinstance(task.asked, GenerationRequest)
    assert task.edit is not None
    image = read_input(decode_input(PICTURE, field="x"), field="x")
    asked = task.edit.applied(task.asked, dict.fromkeys(task.edit.pictures, image))
    assert (asked.init_image, asked.strength) == (image, 0.4)
    assert asked.inpainting == Inpainting(
        image, blur=4, fill=Fill.ORIGINAL, only_masked=True, padding=0
    )


def test_a_link_names_the_picture_too() -> None:
    header = {"task": "image-to-image", "id_task": "1", "image_link": "https://example.com/a.png"}
    edit = parse_task(changed(V0, alwayson_scripts=header)).edit
    assert edit is not None
    assert edit.pictures == {"alwayson_scripts.image_link": "https://example.com/a.png"}


def test_settings_that_are_overridden() -> None:
    settings = {"sd_vae": "sub/fine.safetensors", "CLIP_stop_at_last_layers": 2}
    asked = request_of(changed(V0, override_settings=settings))
    assert (asked.vae, asked.clip_skip) == ("fine", 2)
    assert request_of(changed(V0, alwayson_scripts__sd_vae="Automatic")).vae is None


def test_a_long_id_is_cut_in_names() -> None:
    assert parse_task(changed(V1ALPHA2, metadata__id="x" * 100)).id == "x" * 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alwayson_scripts__task": "extra-single-image"}, "extra-single-image are not drawn here"),
        ({"alwayson_scripts__task": "image-to-image"}, "init_images has 0"),
        ({"init_images": ["iVBO"]}, "init_images: not drawn here"),
        ({"override_settings": {"eta_noise_seed_delta": 31337}}, "eta_noise_seed_delta: not drawn"),
        ({"alwayson_scripts__task": "dance"}, "Unsupported task type"),
        ({"alwayson_scripts__task": None}, "Unsupported task type"),
        ({"alwayson_scripts__controlnet": {"args": []}}, "controlnet: not drawn here"),
        ({"alwayson_scripts__image_link": "http://x/y.png"}, "image_link: not drawn here"),
        ({"enable_hr": True}, "enable_hr: not drawn here"),
        ({"sampler_name": "Eulr"}, "no sampler"),
        ({"width": 500}, "multiple of 8"),
        ({"width": "wide"}, "width is no number"),
        ({"steps": 1.5}, "steps is no whole number"),
        ({"steps": True}, "steps is no number"),
        ({"seed": -2}, "seed is -2"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 100}, "num_images is 200"),
        ({"prompt": {"a": 1}}, "prompt must be text"),
        ({"prompt": ""}, "prompt is empty"),
    ],
)
def test_what_is_not_drawn_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in refusal_of(changed(V0, **changes)).message


def test_false_switches_and_null_are_as_if_left_out() -> None:
    asked = request_of(changed(V0, enable_hr=False, styles=[], steps=None, cfg_scale=None))
    assert (asked.num_inference_steps, asked.guidance_scale) == (None, None)


def test_a_prompt_that_looks_like_a_link_stays_a_prompt() -> None:
    assert request_of(changed(V0, prompt="http://169.254.169.254/")).prompt.startswith("http")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"alwayson_scripts": {"task": "text-to-image"}}',
        '{"alwayson_scripts": []}',
        '{"metadata": 1}',
        changed(V0, alwayson_scripts__id_task="../../etc"),
        changed(V0, alwayson_scripts__id_task="a b"),
        changed(V0, alwayson_scripts__save_dir="a/../b"),
        changed(V0, alwayson_scripts__save_dir=7),
        changed(V1ALPHA2, metadata__id=""),
        changed(V1ALPHA2, metadata__prefix="//"),
        changed(V0, cfg_scale=0).replace('"cfg_scale": 0', '"cfg_scale": NaN'),
        changed(V0, cfg_scale=0).replace('"cfg_scale": 0', '"cfg_scale": 1e999'),
        "[" * 100_000,
    ],
)
def test_what_can_not_be_answered_is_no_task(text: str) -> None:
    with pytest.raises(NotATask):
        parse_task(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from([*V0, "styles", "override_settings", "sampler_index"])
_HEADER = st.sampled_from([*V0["alwayson_scripts"], "save_dir", "image_link"])  # type: ignore[misc]
_METADATA = st.sampled_from([*V1ALPHA2["metadata"]])


@given(
    st.one_of(
        _JSON,
        st.builds(lambda more: {**V0, **more}, st.dictionaries(_FIELDS, _JSON)),
        st.builds(
            lambda more: {**V0, "alwayson_scripts": {**V0["alwayson_scripts"], **more}},  # type: ignore[dict-item]
            st.dictionaries(_HEADER, _JSON),
        ),
        st.builds(
            lambda more: {**V1ALPHA2, "metadata": {**V1ALPHA2["metadata"], **more}},
            st.dictionaries(_METADATA, _JSON),
        ),
        st.builds(lambda content: {**V1ALPHA2, "content": content}, _JSON),
    )
)
def test_every_message_is_a_request_a_refusal_or_no_task(message: Any) -> None:
    try:
        task = parse_task(json.dumps(message))
    except NotATask:
        return
    assert isinstance(task.asked, GenerationRequest | InvalidRequest)
    answer = Answer(task, "origin", 0.0)
    for key in (answer.document_key, answer.image_key(0, "png")):
        assert re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", key)
        assert ".." not in key.split("/")
    document = answer.failed(JobError("x", "y"))
    told = answer.notification(document, [], "s3://b/k", result=False)
    json.dumps([document, told, answer.without_echo(told)], allow_nan=False)


def _answer(message: dict[str, Any], origin: str = "m1") -> Answer:
    return Answer(parse_task(json.dumps(message)), origin, 1_700_000_000.0)


def test_names_have_the_seeds_shape_and_come_again() -> None:
    answer = _answer(V0)
    key = answer.image_key(0, "png")
    assert re.fullmatch(r"307/20231114221320-[0-9a-f-]{36}\.png", key)
    assert key == _answer(V0).image_key(0, "png")
    assert re.fullmatch(r"307/response-[0-9a-f-]{36}\.out", answer.document_key)
    newer = _answer(V1ALPHA2)
    assert re.fullmatch(r"a/b/test-t2i/test-t2i-[0-9a-f]{4}-1\.png", newer.image_key(0, "png"))
    assert re.fullmatch(r"a/b/test-t2i/test-t2i-[0-9a-f]{4}\.out", newer.document_key)


def test_two_messages_of_one_id_write_different_objects() -> None:
    one, other = _answer(V0, "m1"), _answer(V0, "m2")
    assert one.document_key != other.document_key
    assert one.image_key(0, "png") != other.image_key(0, "png")
    assert one.image_key(0, "png") != one.image_key(1, "png")


def test_v0_answers() -> None:
    document = _answer(V0).succeeded(["s3://b/1.png", "s3://b/2.png"], [1, 2])
    assert (document["images"], document["info"]) == ([""], "")
    parameters = document["parameters"]
    assert parameters["prompt"] == "A dog"
    assert parameters["id_task"] == "307"
    assert parameters["status"] == 1
    assert parameters["image_url"] == "s3://b/1.png,s3://b/2.png"
    assert parameters["image_seed"] == "1,2"
    assert parameters["error_msg"] == ""
    failed = _answer(V0).failed(JobError("unknown_model", "There is no model 'x'."))["parameters"]
    assert (failed["status"], failed["error_msg"]) == (0, "There is no model 'x'.")
    assert (failed["reason"], failed["image_url"]) == ("unknown_model", "")


def test_v1alpha2_answers() -> None:
    answer = _answer(V1ALPHA2)
    document = answer.succeeded(["s3://b/1.png"], [7])
    assert document["parameters"]["image_seed"] == "7"
    told = answer.notification(document, ["s3://b/1.png"], "s3://b/x.out", result=True)
    assert told == {
        "runtime": "sdruntime",
        "id": "test-t2i",
        "result": True,
        "status": "completed",
        "image_url": ["s3://b/1.png"],
        "output_url": "s3://b/x.out",
        "context": {"user": [1]},
    }
    assert answer.failed(JobError("c", "m"))["parameters"] == {
        "id_task": "test-t2i",
        "status": 0,
        "error_msg": "m",
        "reason": "c",
    }


@pytest.mark.parametrize("note", [None, 7, {}, {"format": "v9"}, {"format": [], "folder": 1}])
def test_notes_that_are_no_task_s_are_let_be(note: Any) -> None:
    request = GenerationRequest("x", metadata={"task": note, "id_task": "1"})
    settings = Settings("m", 64, 64, 64, 64, 1, 1.0, "euler", 0)
    job = Job("j", request, settings, "default", JobStatus.QUEUED, created_at=0.0, rung_at=0.0)
    assert answer_to(job) is None
    parsed = parse_task(json.dumps(V0))
    answer = answer_to(replace(job, request=noted(request_of(json.dumps(V0)), parsed)))
    assert answer is not None
    assert (answer.task.folder, answer.task.parameters) == (parsed.folder, parsed.parameters)


def test_an_answer_too_long_for_sns_leaves_out_what_its_sender_knows() -> None:
    answer = _answer(V0)
    short = answer.without_echo(answer.succeeded(["s3://b/1.png"], [1]))["parameters"]
    assert short == {
        "id_task": "307",
        "status": 1,
        "image_url": "s3://b/1.png",
        "image_seed": "1",
        "image_mask_url": "",
        "error_msg": "",
    }
