"""The seed systems' wire contracts, request by request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.aws_tasks import changed, v0, v1alpha1, v1alpha2

SMALL = {"width": 64, "height": 64, "steps": 2}
CHECKPOINT = "pattern.safetensors"


@dataclass(frozen=True)
class Contract:
    """One request of a contract and the answer that it promises.

    Attributes:
        name: the section of the contract, and what is asked.
        holds: of the answer; the address of the service stands before its paths.
    """

    name: str
    method: str
    path: str
    status: int
    media_type: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    holds: Callable[[httpx.Response], bool] = lambda _answer: True


def _png(answer: httpx.Response) -> bool:
    return answer.content.startswith(b"\x89PNG\r\n\x1a\n")


def _is(body: Any) -> Callable[[httpx.Response], bool]:
    return lambda answer: bool(answer.json() == body)


def _has(*names: str) -> Callable[[httpx.Response], bool]:
    return lambda answer: set(names) <= answer.json().keys()


def _says(text: str) -> Callable[[httpx.Response], bool]:
    return lambda answer: text in answer.text


def _accepted(folder: str, **expected: str) -> Callable[[httpx.Response], bool]:
    def holds(answer: httpx.Response) -> bool:
        told = answer.json()
        return bool(
            told.pop("output_location").endswith(f"/{folder}")
            and told == {**expected, "id_task": folder.rpartition("/")[2]}
        )

    return holds


def _drew(answer: httpx.Response) -> bool:
    told = answer.json()
    return len(told["images"]) == 1 and "all_seeds" in json.loads(told["info"])


V0_ANSWER = {"task": "text-to-image", "sd_model_checkpoint": CHECKPOINT}
JSON, TEXT, PNG = "application/json", "text/plain", "image/png"
STRUCTURE = "Incorrect payload structure"


def _refused(section: str, words: str, body: Any) -> Contract:
    path = f"/{section.rpartition(' ')[2]}"
    says = _says(f"{STRUCTURE}, {words}")
    return Contract(f"{section}: {words}", "POST", path, 400, TEXT, body, holds=says)


CONTRACTS = [
    # 2.1, the synchronous service
    Contract(
        "2.1 generate answers PNG whatever is accepted",
        *("POST", "/generate", 200, PNG),
        {"prompt": "a castle", "guidance_scale": 7, "num_inference_steps": 2, "seed": 0}
        | {"width": 64, "height": 64},
        {"Accept": "application/json"},
        _png,
    ),
    Contract(
        "2.1 generate wants a prompt",
        *("POST", "/generate", 422, JSON),
        {"seed": 1},
        holds=lambda answer: answer.json()["detail"][0]["loc"] == ["body", "prompt"],
    ),
    Contract("2.1 health", "GET", "/", 200, JSON, holds=_is("OK")),
    # 2.1, KServe's
    Contract(
        "2.1 predict",
        *("POST", "/v1/models/pattern:predict", 200, PNG),
        {
            "prompt": "a castle",
            "parameters": {"seed": 0, "width": 64, "height": 64, "num_inference_steps": 2},
        },
        holds=_png,
    ),
    Contract(
        "2.1 predict of a model that there is not", "POST", "/v1/models/x:predict", 404, JSON, {}
    ),
    Contract("2.1 models", "GET", "/v1/models", 200, JSON, holds=_has("models")),
    Contract(
        "2.1 a model",
        *("GET", "/v1/models/pattern", 200, JSON),
        holds=lambda answer: (answer.json()["name"], answer.json()["ready"]) == ("pattern", True),
    ),
    *(
        Contract(f"2.1 V2 {path}", "GET", f"/v2/{path}", 200, JSON)
        for path in ("health/live", "health/ready", "models/pattern", "models/pattern/ready")
    ),
    Contract(
        "2.1 V2 infer",
        *("POST", "/v2/models/pattern/infer", 200, JSON),
        {"inputs": [{"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["a castle"]}]},
        holds=_has("outputs"),
    ),
    # 2.3, v0
    Contract(
        "2.3 v0",
        *("POST", "/", 200, JSON),
        v0("307"),
        {"x-api-key": "anything, where no key is asked for"},
        _accepted("307", **V0_ANSWER),
    ),
    Contract(
        "2.3 v0 with every routing key and the older samples' parameters",
        *("POST", "/", 200, JSON),
        v0("308", **SMALL, sampler_index="Euler a", batch_size=1, n_iter=2, cfg_scale=7)
        | {"negative_prompt": "fog", "seed": -1}
        | {
            "alwayson_scripts": {
                **V0_ANSWER,
                "id_task": "308",
                "uid": "u1",
                "sd_vae": "Automatic",
                "override_settings": {"CLIP_stop_at_last_layers": 2},
                "image_link": "",
            }
        },
        holds=_accepted("308", **V0_ANSWER),
    ),
    *(
        Contract(
            f"2.3 v0 without {name}",
            *("POST", "/", 400, TEXT),
            v0("309", **{f"alwayson_scripts__{name}": ...}),
            holds=_says(STRUCTURE),
        )
        for name in ("task", "sd_model_checkpoint")
    ),
    # 2.4, v1alpha1
    Contract(
        "2.4 v1alpha1",
        *("POST", "/v1alpha1", 200, JSON),
        v1alpha1("b1"),
        holds=_accepted("out/b1", **V0_ANSWER),
    ),
    *(
        _refused("2.4 v1alpha1", words, changed(v1alpha1("b2"), **changes))
        for words, changes in {
            "alwayson_scripts is missing": {"alwayson_scripts": ...},
            "task is missing": {"alwayson_scripts__task": ...},
            "sd_model_checkpoint is missing": {"alwayson_scripts__sd_model_checkpoint": ...},
            "id_task is missing": {"alwayson_scripts__id_task": ...},
            "invalid id_task format": {"alwayson_scripts__id_task": "a/b"},
            "invalid task type": {"alwayson_scripts__task": "dance"},
        }.items()
    ),
    Contract(
        "2.4 v1alpha1: payload too large",
        *("POST", "/v1alpha1", 413, TEXT),
        v1alpha1("b3", notes=[0] * 600_000),
        holds=_says(f"{STRUCTURE}, payload too large"),
    ),
    # 2.5, v1alpha2
    Contract(
        "2.5 v1alpha2",
        *("POST", "/v1alpha2", 200, JSON),
        v1alpha2("c1"),
        holds=_accepted("out/deep/c1", id="c1", runtime="default"),
    ),
    Contract(
        "2.5 v1alpha2 without a prefix",
        *("POST", "/v1alpha2", 200, JSON),
        v1alpha2("c2", task__metadata__prefix=..., task__metadata__context=...),
        holds=_accepted("c2", id="c2", runtime="default"),
    ),
    *(
        _refused("2.5 v1alpha2", words, changed(v1alpha2("c3"), **changes))
        for words, changes in {
            "metadata is missing": {"task__metadata": ...},
            "runtime is missing": {"task__metadata__runtime": ...},
            "tasktype is missing": {"task__metadata__tasktype": ...},
            "id is missing": {"task__metadata__id": ...},
            "invalid id format": {"task__metadata__id": "../up"},
            "content is missing": {"task__content": ...},
            "invalid tasktype": {"task__metadata__tasktype": "dance"},
            "invalid runtime format": {"task__metadata__runtime": ["default"]},
        }.items()
    ),
    # 2.6, what the queue agents asked of A1111
    Contract(
        "2.6 options",
        *("GET", "/sdapi/v1/options", 200, JSON),
        holds=_has("sd_model_checkpoint"),
    ),
    Contract(
        "2.6 models",
        *("GET", "/sdapi/v1/sd-models", 200, JSON),
        holds=lambda answer: [model["title"] for model in answer.json()] == ["pattern"],
    ),
    Contract("2.6 refresh", "POST", "/sdapi/v1/refresh-checkpoints", 200, JSON),
    Contract("2.6 unload", "POST", "/sdapi/v1/unload-checkpoint", 200, JSON),
    Contract("2.6 interrupt", "POST", "/sdapi/v1/interrupt", 200, JSON),
    Contract("2.6 startup probe", "GET", "/sdapi/v1/memory", 200, JSON),
    Contract(
        "2.6 txt2img",
        *("POST", "/sdapi/v1/txt2img", 200, JSON),
        {"prompt": "a castle", **SMALL},
        holds=_drew,
    ),
    Contract(
        "2.6 a script that there is not",
        *("POST", "/sdapi/v1/txt2img", 422, JSON),
        {"prompt": "a castle", "alwayson_scripts": {"task": "text-to-image"}},
    ),
    Contract("2.6 a caller can't stop the server", "POST", "/sdapi/v1/server-stop", 404, JSON),
]
