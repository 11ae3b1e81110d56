"""The defects of the seed systems that are not ours: a test names each that concerns an API."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sfumato.core.keys import ROLES
from sfumato.core.ports import WebClient
from sfumato.core.runtimes import Runtime
from sfumato.services.submission import Submission
from tests.integration.api.seed_contracts import STRUCTURE
from tests.integration.api.seed_tests import DEFECTS, TESTS, check
from tests.integration.api.serving import context_of, serving
from tests.support.aws_tasks import V0, changed, v0, v1alpha1, v1alpha2
from tests.support.parts import MODEL, House, open_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened, opened.working():
        yield opened


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


@pytest.mark.parametrize("defect", [f"D{number}" for number in range(1, 26)])
def test_every_defect_is_accounted_for(defect: str) -> None:
    shown = DEFECTS[defect]
    page = (TESTS.parent / "docs/reference/dialects/aws.md").read_text()
    if isinstance(shown, str):
        assert re.search(rf"\| {defect} \|", page), f"{defect} belongs on the page: {shown}"
        return
    for reference in shown:
        check(reference)
