"""A LoRA over the real paths: a bucket, or a service elsewhere; worker process, torch, PNG."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support.servers import S3
from tests.support.service import ServiceProcess
from tests.support.worker import WorkerProcess, environment, new_token

ASKED = {"seed": 7, "num_inference_steps": 2}
#: The layers of the starter that it changes, with how many numbers each reads and gives.
LAYERS = {
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (192, 256),
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_v": (192, 256),
}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(3)
    tensors = {}
    for layer, (reads, gives) in LAYERS.items():
        tensors[f"lora_unet_{layer}.lora_down.weight"] = torch.randn(4, reads, generator=random)
        tensors[f"lora_unet_{layer}.lora_up.weight"] = torch.randn(gives, 4, generator=random)
    path = tmp_path / "ink.safetensors"
    save_file(tensors, path, metadata={"ss_output_name": "Ink"})
    return path


def check_drawn_with(service: ServiceProcess) -> None:
    """A picture with the LoRA is another than without, and the same each time."""
    drawn = []
    for prompt in ("a castle at night", *("a castle at night <lora:ink:1>",) * 2):
        job = service.finished(service.submit(prompt, **ASKED)["id"])
        assert job["status"] == "succeeded", job
        found = service.http.get(f"/v1/jobs/{job['id']}/images/0").content
        drawn.append(Image.open(io.BytesIO(found)).tobytes())
    assert drawn[0] != drawn[1]
    assert drawn[1] == drawn[2]


def test_a_lora_added_to_a_bucket_comes_to_the_services_own_worker(
    lora: Path, tmp_path: Path, s3_server: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = {
        "device": "cpu",
        "models_url": f"s3://{s3_bucket}/models",
        "s3_endpoint": s3_server.endpoint,
    }
    data = tmp_path / "data"
    with ServiceProcess(data, settings) as service:
        command = [sys.executable, "-m", "sfumato", "models", "add", str(lora), f"--data={data}"]
        subprocess.run(command, check=True, env=environment(settings), capture_output=True)
        check_drawn_with(service)
        assert not (data / "models").exists()
        (told,) = service.http.get("/v1/models?kind=lora").json()["models"]
        assert (told["name"], told["title"], len(told["sha256"])) == ("ink", "Ink", 64)
        missing = service.http.post("/v1/jobs", json={"prompt": "a castle <lora:inc>"})
        assert missing.status_code == 422
        assert "'ink'" in missing.json()["detail"]


def test_a_lora_in_the_services_folder_comes_to_a_worker_elsewhere(
    lora: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    place = data / "models/Lora/ink.safetensors"
    place.parent.mkdir(parents=True)
    lora.rename(place)
    with ServiceProcess(data, {"max_workers": 0}) as service:
        given = {"connect": service.url, "token": new_token(data), "device": "cpu"}
        with WorkerProcess(tmp_path / "pc", settings=given):
            check_drawn_with(service)
    assert list((tmp_path / "pc").rglob("ink.safetensors")), "it was copied to the worker's disk"
