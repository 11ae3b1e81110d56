"""Models, runtimes, health, the page and the documentation over HTTP."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from sfumato.api.context import ApiContext
from sfumato.core.errors import StoreBusy
from sfumato.core.models import ModelFile, ModelKind, files_digest
from sfumato.core.ports import WorkerKind, WorkerReport
from tests.integration.api.serving import Api
from tests.support.parts import MODEL


async def test_models_and_their_words(api: Api) -> None:
    listed = (await api.http.get("/v1/models")).json()
    assert "dpmpp_2m" in listed["samplers"]
    (model,) = listed["models"]
    assert (model["name"], model["default"], model["vocabulary"]) == ("pattern", True, None)
    alone = (await api.http.get("/v1/models/pattern")).json()
    assert alone["vocabulary"] == ["a", "at", "castle", "night"]


async def test_models_tell_digest_memory_and_where_they_are_loaded(api: Api) -> None:
    house = api.house
    file = ModelFile("unet/x.safetensors", 4, sha256="ab" * 32)
    known = dataclasses.replace(MODEL, name="known", files=(file,), memory_bytes=7)
    house.catalog.models = (MODEL, known)
    now = house.clock.now()
    for name, seen_at in (("w1", now), ("w2", now - 10), ("gone", now - 1000)):
        await house.workers.seen(
            WorkerReport(name, "default", WorkerKind.LOCAL, "cpu", ("known",), now, seen_at)
        )
    pattern, listed = (await api.http.get("/v1/models")).json()["models"]
    assert (pattern["sha256"], pattern["memory_bytes"], pattern["loaded_on"]) == (None, 0, [])
    assert listed["sha256"] == files_digest(known.files)
    assert listed["memory_bytes"] == 7
    assert listed["loaded_on"] == ["w1", "w2"]
    alone = (await api.http.get("/v1/models/known")).json()
    assert alone | {"vocabulary": None} == listed


async def test_weights_of_other_kinds_are_listed_by_kind(api: Api) -> None:
    house = api.house
    lora = dataclasses.replace(MODEL, kind=ModelKind.LORA, family="sd1", title="Ink")
    house.catalog.models = (MODEL, lora, dataclasses.replace(lora, name="night"))
    assert [model["kind"] for model in (await api.http.get("/v1/models")).json()["models"]] == [
        "base"
    ]
    loras = (await api.http.get("/v1/models?kind=lora")).json()["models"]
    assert [(model["name"], model["kind"], model["default"]) for model in loras] == [
        ("pattern", "lora", False),
        ("night", "lora", False),
    ]
    assert len((await api.http.get("/v1/models?kind=all")).json()["models"]) == 3
    alone = (await api.http.get("/v1/models/pattern?kind=lora")).json()
    assert (alone["title"], alone["family"]) == ("Ink", "sd1")
    missing = await api.http.get("/v1/models/ink?kind=lora")
    assert missing.status_code == 404
    assert "no LoRA 'ink'" in missing.json()["detail"]
    assert (await api.http.get("/v1/models?kind=lorry")).status_code == 422


async def test_runtimes_say_what_they_do(api: Api) -> None:
    await api.house.submit()
    (runtime,) = (await api.http.get("/v1/runtimes")).json()["runtimes"]
    assert (runtime["name"], runtime["queued"], runtime["running"]) == ("default", 1, 0)


async def test_health_is_the_process_and_readiness_the_store(api: Api) -> None:
    assert (await api.http.get("/healthz")).json()["status"] == "ok"
    assert (await api.http.get("/readyz")).json() == {"ready": True, "waiting_for": []}

    async def broken() -> Sequence[str]:
        raise StoreBusy("The database is locked by another process.")

    context: ApiContext = api.app.state.context
    api.app.state.context = dataclasses.replace(context, ready=broken)
    response = await api.http.get("/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert response.json()["waiting_for"] == ["The database is locked by another process."]
    assert (await api.http.get("/healthz")).status_code == 200


async def test_root_is_a_health_check_to_a_probe_and_the_page_to_a_browser(api: Api) -> None:
    probe = await api.http.get("/", headers={"Accept": "*/*"})
    assert (probe.status_code, probe.json()) == (200, "OK")
    page = await api.http.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert "<title>Sfumato</title>" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    script = await api.http.get("/ui/app.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "default-src 'none'" in script.headers["Content-Security-Policy"]


async def test_every_origin_may_ask_and_may_read_an_error(api: Api) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "idempotency-key"
    preflight = await api.http.options("/v1/jobs", headers=asked)
    assert preflight.status_code == 200
    response = await api.http.get("/v1/jobs/nope", headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_documentation_knows_every_path(api: Api) -> None:
    schema = (await api.http.get("/openapi.json")).json()
    assert schema["info"]["title"] == "Stable Diffusion Inference API"
    body = schema["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["prompt"]
    assert {"/generate", "/v1/jobs/{job_id}/events", "/readyz"} <= set(schema["paths"])
    docs = (await api.http.get("/docs")).text
    files = re.findall(r'(?:src|href)="([^"]+)"', docs)
    assert len(files) == 3
    for file in files:
        assert file.startswith("/"), "nothing comes from another site"
        assert (await api.http.get(file)).status_code == 200
