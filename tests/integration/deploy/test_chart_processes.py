"""What the chart starts: each command line and variable is one that the program takes, and a server's
answers with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfumato.cli.main import app
from sfumato.settings import Settings
from tests.support.chart import Manifest, environment, pod_spec
from tests.support.chart_runtimes import SCALINGS, SHARINGS, render_runtime
from tests.support.service import ServiceProcess

API_KEY = "sfk_" + "a" * 43
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what a pod listens at


def container(scaling: str, gpu: str = "cpu", **others: Any) -> Manifest:
    rendered = render_runtime({**SCALINGS[scaling], "gpu": SHARINGS[gpu], **others})
    pods = [pod_spec(each) for each in rendered if "sfumato.dev/runtime" in labels(each)]
    (spec,) = [pod for pod in pods if pod is not None]
    found: Manifest = spec["containers"][0]
    return found


def labels(manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = manifest["metadata"].get("labels", {})
    return found


def settings_of(container: Manifest) -> dict[str, str]:
    """What its variables set; those that come from a Secret or the pod are made up."""
    made_up = {"SFUMATO_BOOTSTRAP_API_KEY": API_KEY, "SFUMATO_TOKEN": "sfw_x"}
    return {
        name.removeprefix("SFUMATO_").lower(): value
        if isinstance(value, str)
        else made_up.get(name, "x")
        for name, value in environment(container).items()
        if name.startswith("SFUMATO_")
    }


@pytest.mark.parametrize("gpu", ["cpu", "whole", "time-slicing", "mps"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_each_variable_is_a_setting_with_a_value_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, scaling: str, gpu: str
) -> None:
    given = settings_of(container(scaling, gpu))
    assert given.keys() <= Settings.model_fields.keys()
    for name, value in given.items():
        monkeypatch.setenv(f"SFUMATO_{name.upper()}", value)
    settings = Settings.load()
    assert (settings.gpu_memory_fraction is None) == (gpu in ("cpu", "whole"))
    assert settings.internal_port in (9090, 9190)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_each_command_line_is_one_that_the_program_reads(scaling: str) -> None:
    command, *arguments = container(scaling)["args"]
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    read = found.make_context(command, list(arguments)).params
    if command == "serve":
        assert (read["host"], read["port"]) == (EVERYWHERE, 8080)
    else:
        assert (read["runtime"], read["insecure"]) == ("r", True)
        assert read["once"] == (scaling == "job")


def test_a_server_draws_for_whoever_shows_its_key(tmp_path: Path) -> None:
    given = settings_of(container("knative")) | {
        "data": str(tmp_path),
        "model_cache": str(tmp_path / "cache"),
        "internal_port": "0",
        "device": "fake",
    }
    # All addresses, as in its pod: callers need keys there.
    with ServiceProcess(tmp_path, given, ("--host", EVERYWHERE)) as service:
        http, body = service.http, {"prompt": "a castle", "num_inference_steps": 1}
        port = service.url.rsplit(":", 1)[-1]
        address = f"http://127.0.0.1:{port}/generate"
        assert http.post(address, json=body).status_code == 401
        answer = http.post(address, json=body, headers={"authorization": f"Bearer {API_KEY}"})
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(b"\x89PNG")
