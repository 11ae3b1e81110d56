"""Models in a bucket over the real path: S3 server, service, worker process, torch, PNG."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sfumato.adapters.models.store import ModelStore
from sfumato.bootstrap.models import STARTER
from tests.support.servers import S3
from tests.support.service import ServiceProcess


@pytest.fixture
def settings(s3_server: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return {
        "device": "cpu",
        "models_url": f"s3://{s3_bucket}/models",
        "s3_endpoint": s3_server.endpoint,
    }


@pytest.fixture
def service(tmp_path: Path, settings: dict[str, str]) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "data", settings) as running:
        yield running


def sfumato(settings: dict[str, str], *arguments: str) -> None:
    given = {f"SFUMATO_{key.upper()}": value for key, value in settings.items()}
    command = [sys.executable, "-m", "sfumato", *arguments]
    subprocess.run(command, check=True, env={**os.environ, **given}, capture_output=True)


def spoil(settings: dict[str, str], server: S3, ending: str) -> None:
    """Change one bit of an object."""
    options = {"endpoint": server.endpoint, "allow_http": "true"}
    store = ModelStore.open(settings["models_url"], options)
    key, file = next(item for item in store.list().items() if item[0].endswith(ending))
    assert key.startswith("spoilt/")
    content = store.read_now(key, 0, file.size_bytes)
    asyncio.run(store.put(key, content[:-1] + bytes([content[-1] ^ 1])))


def pixels(service: ServiceProcess, job: dict[str, object]) -> bytes:
    found = service.http.get(f"/v1/jobs/{job['id']}/images/0").content
    return Image.open(io.BytesIO(found)).tobytes()


def test_a_model_added_to_a_running_service_draws_and_a_corrupted_one_does_not(
    service: ServiceProcess, settings: dict[str, str], s3_server: S3, tmp_path: Path
) -> None:
    asked = {"seed": 7, "num_inference_steps": 4}
    near = service.finished(service.submit(**asked)["id"])
    assert near["status"] == "succeeded", near
    sfumato(settings, "models", "add", str(STARTER), "--name", "spoilt")
    spoil(settings, s3_server, "vae/diffusion_pytorch_model.safetensors")
    spoilt = service.finished(service.submit(model="spoilt", **asked)["id"])
    assert spoilt["status"] == "failed"
    assert spoilt["error"]["code"] == "model_unusable"
    assert (
        "diffusion_pytorch_model.safetensors is not what was published"
        in (spoilt["error"]["message"])
    )
    assert spoilt["attempts"] == 1
    sfumato(settings, "models", "add", str(STARTER), "--name", "far")
    far = service.finished(service.submit(model="far", **asked)["id"])
    assert far["status"] == "succeeded", far
    assert pixels(service, far) == pixels(service, near)
    assert far["timings"]["loading"] > 0
    # Asked for by name a model is looked for at once; a list may be a second old.
    models = {model["name"]: model for model in service.http.get("/v1/models").json()["models"]}
    assert set(models) == {"starter", "far", "spoilt"}
    assert models["far"]["sha256"] == models["starter"]["sha256"]
    assert models["far"]["memory_bytes"] > models["far"]["size_bytes"] > 0

    assert len(service.workers()) == 1, "the one that met the corrupted model lives"
