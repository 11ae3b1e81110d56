"""The seed systems' wire contracts, request by request, and the defects of theirs that are not ours.

Every row of :data:`CONTRACTS` goes over TCP to a service with a worker beside it. :data:`DEFECTS`
names for each defect of the originals the tests that show its absence, here or elsewhere, or why it
is not about an API.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sfumato.core.keys import ROLES
from sfumato.core.ports import WebClient
from sfumato.core.runtimes import Runtime
from sfumato.services.submission import Submission
from tests.integration.api.serving import context_of, serving
from tests.integration.api.test_http_aws import V0, V1ALPHA1, V1ALPHA2, changed
from tests.support.parts import MODEL, House, open_house

TESTS = Path(__file__).parents[2]
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


def v0(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V0, alwayson_scripts__id_task=name, **changes)


def v1alpha1(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V1ALPHA1, alwayson_scripts__id_task=name, **changes)


def v1alpha2(name: str, **changes: Any) -> dict[str, Any]:
    return changed(V1ALPHA2, task__metadata__id=name, **changes)


V0_ANSWER = {"task": "text-to-image", "sd_model_checkpoint": CHECKPOINT}
JSON, TEXT, PNG = "application/json", "text/plain", "image/png"
STRUCTURE = "Incorrect payload structure"

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
        Contract(
            f"2.4 v1alpha1: {words}",
            *("POST", "/v1alpha1", 400, TEXT),
            v1alpha1("b2", **changes),
            holds=_says(f"{STRUCTURE}, {words}"),
        )
        for words, changes in {
            "alwayson_scripts is missing": {"alwayson_scripts": ...},
            "task is missing": {"alwayson_scripts__task": ...},
            "sd_model_checkpoint is missing": {"alwayson_scripts__sd_model_checkpoint": ...},
            "invalid task type": {"alwayson_scripts__task": "dance"},
        }.items()
    ),
    Contract(
        "2.4 v1alpha1: id_task is missing",
        *("POST", "/v1alpha1", 400, TEXT),
        changed(V1ALPHA1, alwayson_scripts__id_task=...),
        holds=_says(f"{STRUCTURE}, id_task is missing"),
    ),
    Contract(
        "2.4 v1alpha1: invalid id_task format",
        *("POST", "/v1alpha1", 400, TEXT),
        v1alpha1("a/b"),
        holds=_says(f"{STRUCTURE}, invalid id_task format"),
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
        Contract(
            f"2.5 v1alpha2: {words}",
            *("POST", "/v1alpha2", 400, TEXT),
            v1alpha2("c3", **changes),
            holds=_says(f"{STRUCTURE}, {words}"),
        )
        for words, changes in {
            "metadata is missing": {"task": {"content": {}}},
            "runtime is missing": {"task__metadata__runtime": ...},
            "tasktype is missing": {"task__metadata__tasktype": ...},
            "content is missing": {"task__content": ...},
            "invalid tasktype": {"task__metadata__tasktype": "dance"},
            "invalid runtime format": {"task__metadata__runtime": ["default"]},
        }.items()
        if "task" not in changes
    ),
    Contract(
        "2.5 v1alpha2: metadata is missing",
        *("POST", "/v1alpha2", 400, TEXT),
        {"task": {"content": {}}},
        holds=_says(f"{STRUCTURE}, metadata is missing"),
    ),
    Contract(
        "2.5 v1alpha2: id is missing",
        *("POST", "/v1alpha2", 400, TEXT),
        changed(V1ALPHA2, task__metadata__id=...),
        holds=_says(f"{STRUCTURE}, id is missing"),
    ),
    Contract(
        "2.5 v1alpha2: invalid id format",
        *("POST", "/v1alpha2", 400, TEXT),
        v1alpha2("../up"),
        holds=_says(f"{STRUCTURE}, invalid id format"),
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


#: Files of tests, from the folder of all of them.
HERE, AWS = "integration/api/test_seed_contracts.py", "integration/api/test_http_aws.py"
AMQP, AMQP_SYSTEM = "integration/amqp/test_tasks.py", "system/test_amqp_tasks.py"
SQS, SQS_SYSTEM = "integration/sqs/test_tasks.py", "system/test_sqs_tasks.py"
READING, RESULTS = "unit/core/test_tasks.py", "integration/services/test_task_results.py"
#: What goes over no HTTP of ours, and where it is tested.
ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "2.2 the queue `tasks` and its objects": (
        f"{AMQP}::test_a_task_gets_an_id_that_stays_with_it",
        f"{AMQP}::test_a_count_that_is_none_is_one",
        f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",
    ),
    "2.3 SNS's envelope, objects, document and notification": (
        f"{SQS}::test_a_v0_task_in_an_envelope",
        f"{READING}::test_v0_answers",
        f"{AWS}::test_v0_is_taken_at_once_and_its_results_lie_where_it_says",
    ),
    "2.4 v1alpha1 from a queue": (f"{READING}::test_v1alpha1_has_a_folder_of_its_own",),
    "2.5 published, told when it runs and when it ends": (
        f"{SQS}::test_a_v1alpha2_task_raw",
        f"{SQS}::test_that_a_v1alpha2_task_runs_is_told_where_somebody_asks",
        f"{RESULTS}::test_what_becomes_of_a_task_is_told_to_the_sink",
    ),
    "2.7 how many workers": (
        "unit/services/test_placement.py::test_workers_follow_the_open_jobs_up_to_the_maximum",
    ),
}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened, opened.working():
        yield opened


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(context_of(house)) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[httpx.AsyncClient]:
    """One service for all contracts; each has an id of its own."""
    async with (
        open_house() as house,
        house.working(),
        serving(context_of(house)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_contract(service: httpx.AsyncClient, contract: Contract) -> None:
    answer = await service.request(
        contract.method, contract.path, json=contract.body, headers=contract.headers
    )
    assert answer.status_code == contract.status, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == contract.media_type
    assert contract.holds(answer), answer.text


async def test_d5_one_bad_job_breaks_no_listing_and_each_tells_its_status(
    house: House, http: httpx.AsyncClient
) -> None:
    """D5: a PNG without its JSON broke the whole gallery; there was no status and no error."""
    done = await house.finished(await house.submit())
    await house.images.delete_prefix(f"jobs/{done.id}/")
    await house.finished(await house.submit(num_images=2))
    jobs = (await http.get("/v1/jobs")).json()["jobs"]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
    assert (await http.get(f"/v1/jobs/{done.id}/images/0")).status_code == 404


@contextlib.asynccontextmanager
async def _serving(
    house: House, runtimes: Sequence[Runtime], *, max_queued: int = 100
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with these runtimes, where so many jobs may wait."""
    submission = Submission(
        store=house.store,
        queue=house.queue,
        images=house.images,
        catalog=house.catalog,
        runtimes=runtimes,
        clock=house.clock,
        hooks=house.hooks,
        max_queued=max_queued,
    )
    context = replace(context_of(house), submission=submission, runtimes=runtimes)
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


AWKWARD = 'a "red" castle\'s $(touch /tmp/x) `gate`\n; & | \\ *'


@pytest.mark.parametrize("prompt", [AWKWARD, "http://169.254.169.254/latest", "s3://bucket/key"])
@pytest.mark.parametrize("api", ["generate", "huggingface", "v0", "v1alpha1", "v1alpha2"])
async def test_d6_d18_a_prompt_is_a_prompt(house: House, api: str, prompt: str) -> None:
    """D6: quotes in a prompt were mangled by a shell. D18: one that begins with ``http`` was
    fetched and replaced by what came."""
    path, body = {
        "generate": ("/generate", {"prompt": prompt, "width": 64, "height": 64}),
        "huggingface": ("/", {"inputs": prompt}),
        "v0": ("/", v0("d18", prompt=prompt)),
        "v1alpha1": ("/v1alpha1", v1alpha1("d18", prompt=prompt)),
        "v1alpha2": ("/v1alpha2", v1alpha2("d18", task__content__prompt=prompt)),
    }[api]
    context = replace(context_of(house), web=_NoWeb())
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    job = await house.tracking.get(answer.headers["X-Sfumato-Job"])
    assert job.request.prompt == prompt


class _NoWeb(WebClient):
    """Fails the test that lets it out."""

    def check(self, url: str, *, field: str) -> None:
        raise AssertionError(url)

    async def read(self, url: str, *, field: str, limit: int) -> bytes:
        raise AssertionError(url)

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        raise AssertionError(url)


@pytest.mark.parametrize("named", [{}, {"sdname": ""}, {"sdname": 7}, {"sdname": "sd15Addon"}])
async def test_d7_a_task_that_no_runtime_would_hear_of_is_refused(
    house: House, http: httpx.AsyncClient, named: dict[str, Any]
) -> None:
    """D7: without an ``sdname`` that routed it, a task was answered 200 and dropped."""
    answer = await http.post("/", json={**changed(V0, sdname=...), **named})
    assert (answer.status_code, "default" in answer.text) == (400, True)
    assert "sdname" in answer.text
    assert not (await house.tracking.list()).jobs


async def test_d8_what_no_fixed_runtime_serves_goes_to_the_one_that_serves_everything(
    house: House,
) -> None:
    """D8: the dynamic runtime's filter looked at an attribute that nobody sent any more."""
    house.catalog.models = (MODEL, replace(MODEL, name="other"))
    runtimes = [Runtime("fixed", models=("pattern",)), Runtime("dynamic")]
    async with _serving(house, runtimes) as http:
        fixed = await http.post("/v1alpha1", json=v1alpha1("d8"))
        body = v1alpha1("d8b", alwayson_scripts__sd_model_checkpoint="other.safetensors")
        dynamic = await http.post("/v1alpha1", json=body)
        named = await http.post("/", json=v0("d8c", sdname="DynamicAddon"))
        wrong = changed(body, alwayson_scripts__id_task="d8d", sdname="fixedAddon")
        refused = await http.post("/", json=wrong)
    jobs = [
        await house.tracking.get(answer.headers["X-Sfumato-Job"])
        for answer in (fixed, dynamic, named)
    ]
    assert [job.runtime for job in jobs] == ["fixed", "dynamic", "dynamic"]
    assert (refused.status_code, "dynamic" in refused.text) == (400, True)


async def test_d8_a_runtime_of_fixed_models_draws_with_its_own(house: House) -> None:
    """D8: v1alpha2 need not name a model; a static runtime then has one."""
    house.catalog.models = (MODEL, replace(MODEL, name="other"))
    async with _serving(house, [Runtime("all"), Runtime("fixed", models=("other",))]) as http:
        body = v1alpha2("d8", task__metadata__runtime="fixed")
        answer = await http.post("/v1alpha2", json=body)
    job = await house.tracking.get(answer.headers["X-Sfumato-Job"])
    assert (job.runtime, job.settings.model) == ("fixed", "other")


@pytest.mark.parametrize("trace", ["", "Root=1-5759e988-bd862e3fe1be46a994272793", "junk"])
async def test_d11_a_trace_header_is_nobody_s_business(http: httpx.AsyncClient, trace: str) -> None:
    """D11: without ``AWSTraceHeader`` the agent crashed."""
    answer = await http.post("/", json=v0("d11"), headers={"X-Amzn-Trace-Id": trace})
    assert answer.status_code == 200


async def test_d15_an_id_is_one_task(house: House, http: httpx.AsyncClient) -> None:
    """D15: an ``id_task`` used again mixed two tasks' pictures in one folder."""
    first, again = [await http.post("/", json=v0("d15", seed=-1)) for _ in range(2)]
    assert first.headers["X-Sfumato-Job"] == again.headers["X-Sfumato-Job"]
    other = await http.post("/", json=v0("d15", prompt="another castle"))
    assert (other.status_code, "d15" in other.json()["message"]) == (409, True)
    assert len((await house.tracking.list()).jobs) == 1


@pytest.mark.parametrize("astray", ["../../etc/passwd", "a/b", "a b", "a\n", "é", "x" * 300, True])
async def test_d16_an_id_leads_nowhere_else(
    house: House, http: httpx.AsyncClient, astray: Any
) -> None:
    """D16: v0 put any ``id_task`` into the keys of its objects."""
    for path, body in (("/", v0(astray)), ("/v1alpha2", v1alpha2(astray))):
        answer = await http.post(path, json=body)
        assert (answer.status_code, "format" in answer.text) == (400, True)
    folder = v1alpha1("d16", alwayson_scripts__save_dir=f"{astray}/..")
    assert (await http.post("/v1alpha1", json=folder)).status_code == 400
    assert not (await house.tracking.list()).jobs


async def test_d17_pipeline_is_refused_for_what_it_is(http: httpx.AsyncClient) -> None:
    """D17: the validator called ``pipeline``, which its documents promise, an invalid type."""
    answer = await http.post("/v1alpha2", json=v1alpha2("d17", task__metadata__tasktype="pipeline"))
    assert answer.status_code == 400
    assert "invalid" not in answer.text
    assert "type pipeline are not drawn here" in answer.text
    assert "text-to-image" in answer.text


async def test_d19_a_picture_in_a_bucket_is_refused_at_once(http: httpx.AsyncClient) -> None:
    """D19: every ``s3://`` address of a picture failed, after the task had been accepted."""
    header = {"alwayson_scripts__task": "image-to-image"}
    link = {"alwayson_scripts__image_link": "s3://bucket/key.png"}
    answer = await http.post("/", json=v0("d19", **header, **link))
    assert (answer.status_code, "image_link" in answer.text) == (400, True)


@pytest.mark.parametrize("kind", ["dance", "", None, 7, ["text-to-image"], {"a": 1}])
async def test_d21_an_unknown_type_is_an_answer(http: httpx.AsyncClient, kind: Any) -> None:
    """D21: an unknown type ended in a variable that had no value."""
    for path, body in (
        ("/", v0("d21", alwayson_scripts__task=kind)),
        ("/v1alpha2", v1alpha2("d21", task__metadata__tasktype=kind)),
    ):
        answer = await http.post(path, json=body)
        assert (answer.status_code, answer.text.startswith(STRUCTURE)) == (400, True)


async def test_d22_the_id_has_both_names_and_a_missing_key_one_status(house: House) -> None:
    """D22: documents and code disagreed about ``id`` and ``id_task``, 401 and 403."""
    async with (
        serving(context_of(house, key_required=True)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for path in ("/", "/v1alpha1", "/v1alpha2"):
            assert (await http.post(path, json=V0)).status_code == 401
        _, secret = await house.keys.create(name="me", scopes=ROLES["user"])
        answer = await http.post("/v1alpha2", json=v1alpha2("d22"), headers={"x-api-key": secret})
    assert answer.json()["id"] == answer.json()["id_task"] == "d22"


async def test_d23_what_is_too_much_is_refused_and_said(house: House) -> None:
    """D23: no limit of size, of steps or of callers at once; exceptions went out as text."""
    async with _serving(house, [Runtime("default")], max_queued=0) as http:
        for path, body in {
            "/generate": {"prompt": "x", "width": 1 << 20},
            "/": {"inputs": "x", "parameters": {"num_inference_steps": 10**6}},
            "/v1alpha1": v1alpha1("d23", width=1 << 20),
        }.items():
            refused = await http.post(path, json=body)
            assert refused.status_code in (400, 422)
            assert "Traceback" not in refused.text
        for path, body in {
            "/generate": {"prompt": "x"},
            "/": {"inputs": "x"},
            "/v1alpha1": v1alpha1("d23"),
            "/v1alpha2": v1alpha2("d23"),
        }.items():
            full = await http.post(path, json=body)
            assert (full.status_code, "Retry-After" in full.headers) == (429, True)


async def test_d24_probes_tell_life_from_readiness(house: House) -> None:
    """D24: there were no probes, so that traffic went where nothing answered."""

    async def not_yet() -> list[str]:
        return ["The database is away."]

    context = replace(context_of(house), ready=not_yet)
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/healthz")).status_code == 200
        waiting = await http.get("/readyz")
    assert (waiting.status_code, waiting.json()["waiting_for"]) == (503, ["The database is away."])


#: Defect -> the tests that show it is not here, or why it is not about an API.
DEFECTS: Mapping[str, tuple[str, ...] | str] = {
    "D1": (f"{AMQP_SYSTEM}::test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects",),
    "D2": (f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",),
    "D3": (f"{AMQP}::test_a_failure_is_told_beside_the_pictures_place",),
    "D4": (
        f"{AMQP}::test_a_task_gets_an_id_that_stays_with_it",
        f"{AMQP}::test_a_count_that_is_none_is_one",
    ),
    "D5": (f"{HERE}::test_d5_one_bad_job_breaks_no_listing_and_each_tells_its_status",),
    "D6": (
        f"{HERE}::test_d6_d18_a_prompt_is_a_prompt",
        f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",
    ),
    "D7": (f"{HERE}::test_d7_a_task_that_no_runtime_would_hear_of_is_refused",),
    "D8": (
        f"{HERE}::test_d8_what_no_fixed_runtime_serves_goes_to_the_one_that_serves_everything",
        f"{HERE}::test_d8_a_runtime_of_fixed_models_draws_with_its_own",
    ),
    "D9": (
        f"{SQS_SYSTEM}::test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects",
        f"{SQS}::test_a_second_delivery_writes_the_same_objects",
    ),
    "D10": (f"{READING}::test_what_can_not_be_answered_is_no_task",),
    "D11": (
        f"{HERE}::test_d11_a_trace_header_is_nobody_s_business",
        f"{SQS}::test_a_v1alpha2_task_raw",
    ),
    "D12": "how a pod of three containers ends; a worker here is one process",
    "D13": "where settings stand in KEDA's manifests",
    "D14": "manifests that a README still describes",
    "D15": (
        f"{HERE}::test_d15_an_id_is_one_task",
        f"{READING}::test_two_messages_of_one_id_write_different_objects",
    ),
    "D16": (f"{HERE}::test_d16_an_id_leads_nowhere_else",),
    "D17": (f"{HERE}::test_d17_pipeline_is_refused_for_what_it_is",),
    "D18": (
        f"{HERE}::test_d6_d18_a_prompt_is_a_prompt",
        f"{READING}::test_a_prompt_that_looks_like_a_link_stays_a_prompt",
    ),
    "D19": (f"{HERE}::test_d19_a_picture_in_a_bucket_is_refused_at_once",),
    "D20": (
        f"{SQS}::test_what_is_no_task_is_set_aside_and_its_words_stay_out_of_the_log",
        f"{SQS}::test_a_copy_made_at_twelve_hours_is_the_same_task",
    ),
    "D21": (f"{HERE}::test_d21_an_unknown_type_is_an_answer",),
    "D22": (f"{HERE}::test_d22_the_id_has_both_names_and_a_missing_key_one_status",),
    "D23": (f"{HERE}::test_d23_what_is_too_much_is_refused_and_said",),
    "D24": (f"{HERE}::test_d24_probes_tell_life_from_readiness",),
    "D25": "an Argo workflow's test of success",
}


@pytest.mark.parametrize("defect", [f"D{number}" for number in range(1, 26)])
def test_every_defect_is_accounted_for(defect: str) -> None:
    shown = DEFECTS[defect]
    page = (TESTS.parent / "docs/reference/dialects/aws.md").read_text()
    if isinstance(shown, str):
        assert re.search(rf"\| {defect} \|", page), f"{defect} belongs on the page: {shown}"
        return
    for reference in shown:
        _check(reference)


@pytest.mark.parametrize("contract", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(contract: str) -> None:
    for reference in ELSEWHERE[contract]:
        _check(reference)


def _check(reference: str) -> None:
    file, _, name = reference.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
