"""The starter model over the real path: HTTP, queue, worker process, torch, PNG."""

from __future__ import annotations

import io
import json
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.service import PATIENCE, ServiceProcess

REAL = {"device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with models of every kind of trouble."""
    folder = tmp_path_factory.mktemp("data")
    models = folder / "models"
    models.mkdir()
    (models / "pickled.ckpt").write_bytes(b"\x80\x04K\x01.")
    header = json.dumps(
        {"model.diffusion_model.x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}
    ).encode()
    (models / "cut-short.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (models / "garbage.safetensors").write_bytes(b"\xff" * 64)
    return folder


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(data, REAL) as running:
        yield running


def _picture(service: ServiceProcess, job: dict[str, object]) -> bytes:
    return service.http.get(f"/v1/jobs/{job['id']}/images/0").content


def test_a_prompt_becomes_a_picture_with_its_recipe(service: ServiceProcess) -> None:
    job = service.finished(service.submit("a castle at night", seed=7)["id"])
    assert job["status"] == "succeeded", job
    image = Image.open(io.BytesIO(_picture(service, job)))
    assert image.size == (job["used"]["width"], job["used"]["height"])
    assert image.text["parameters"].startswith("a castle at night\n")  # type: ignore[attr-defined]
    assert json.loads(image.text["sfumato"])["seed"] == 7  # type: ignore[attr-defined]
    kinds = service.events(job["id"])
    assert kinds[0] == "queued"
    assert kinds[-1] == "succeeded"
    assert "step" in kinds


def test_the_seed_documents_curl_gets_a_png_of_exactly_its_size(service: ServiceProcess) -> None:
    answer = service.http.post(
        "/generate",
        headers={"accept": "application/json"},
        json={
            "prompt": "Red forest, digital art, trending",
            "guidance_scale": 7,
            "num_inference_steps": 28,
            "seed": 42,
            "width": 512,
            "height": 512,
        },
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (512, 512)
    job = service.job(answer.headers["X-Sfumato-Job"])
    assert any("resampled" in note for note in job["notes"])
    assert any("trending" in note for note in job["notes"]), "unknown words are named"


def test_the_same_request_gives_the_same_pixels_and_another_others(
    service: ServiceProcess,
) -> None:
    prompts = ["a castle at night", "a castle at night", "a dog on a beach in daylight"]
    jobs = [service.finished(service.submit(prompt, seed=0)["id"]) for prompt in prompts]
    first, again, other = (Image.open(io.BytesIO(_picture(service, job))).tobytes() for job in jobs)
    assert first == again
    assert first != other


@pytest.mark.parametrize("model", ["cut-short", "garbage"])
def test_a_broken_checkpoint_fails_its_job_and_the_worker_lives(
    service: ServiceProcess, model: str
) -> None:
    service.finished(service.submit()["id"])
    before = {worker.pid for worker in service.workers()}
    job = service.finished(service.submit(model=model)["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "model_unusable"
    assert f"{model}.safetensors" in job["error"]["message"]
    assert job["attempts"] == 1
    assert service.finished(service.submit()["id"])["status"] == "succeeded"
    assert {worker.pid for worker in service.workers()} == before


def test_a_pickle_is_refused_before_anything_is_queued(service: ServiceProcess) -> None:
    answer = service.http.post("/v1/jobs", json={"prompt": "a castle", "model": "pickled"})
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["field"]) == ("model_refused", "model")
    assert "pickle" in problem["detail"].lower()


def test_the_services_own_process_never_loads_torch(service: ServiceProcess) -> None:
    service.finished(service.submit()["id"])
    family = service.family()
    mapped = [any("libtorch" in m.path for m in p.memory_maps()) for p in family]
    assert mapped[0] is False
    assert any(mapped[1:]), "the worker does"


def test_a_terminated_workers_picture_is_resumed_with_the_same_pixels(tmp_path: Path) -> None:
    request = {"seed": 5, "num_inference_steps": 60, "sampler": "euler_a"}
    with ServiceProcess(tmp_path, {**REAL, "grace": 0}) as service:
        whole = service.finished(service.submit(**request)["id"])
        job_id = service.submit(**request)["id"]
        service.events(job_id, until="step")
        (worker,) = service.workers()
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE)

        resumed = service.finished(job_id)
        assert (resumed["status"], resumed["attempts"]) == ("succeeded", 2)
        events = service.http.get(f"/v1/jobs/{job_id}/events").text
        assert "its worker is shutting down" in events
        assert _picture(service, resumed) == _picture(service, whole)
