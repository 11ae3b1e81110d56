"""`sfumato models add` and `remove`, from a disk, a bucket and a hub, to a folder and a bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from sfumato.adapters.models.manifest import MANIFEST
from sfumato.bootstrap.models import STARTER
from sfumato.cli.main import app, main
from tests.support.answering import Answering
from tests.support.model_files import (
    LORA,
    SD1,
    write_component,
    write_folder,
    write_safetensors,
    write_whole_folder,
)
from tests.support.servers import S3

runner = CliRunner()


def run(*arguments: str) -> str:
    """Standard output of a command that succeeds."""
    result = runner.invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of a command that does not."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    return capsys.readouterr().err


def listed(*where: str) -> dict[str, dict[str, object]]:
    found = json.loads(run("models", "list", "--json", *where))
    return {model["name"]: model for model in found}


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def test_a_folder_and_a_file_are_added_shown_and_removed(tmp_path: Path, data: str) -> None:
    write_whole_folder(tmp_path / "photo")
    write_safetensors(tmp_path / "one.safetensors", SD1)
    assert "Added photo (sd1" in run("models", "add", str(tmp_path / "photo"), "--data", data)
    run("models", "add", str(tmp_path / "one.safetensors"), "--name", "mine", "--data", data)
    models = listed("--data", data)
    assert set(models) == {"starter", "photo", "mine"}
    assert all(len(str(models[name]["sha256"])) == 64 for name in models)
    shown = run("models", "show", "mine", "--data", data)
    assert str(models["mine"]["sha256"]) in shown
    assert "GB on a GPU" in shown
    inside = {path.name for path in (tmp_path / "data/models/mine").iterdir()}
    assert inside == {"one.safetensors", MANIFEST}
    assert "Removed photo" in run("models", "remove", "photo", "--data", data)
    assert set(listed("--data", data)) == {"starter", "mine"}
    assert [path.name for path in (tmp_path / "data/models").iterdir()] == ["mine"]


def test_the_starters_artists_and_their_licences_are_shown_and_go_with_it(data: str) -> None:
    shown = run("models", "show", "starter", "--data", data)
    assert "made from  Fluent Emoji" in shown
    assert "Microsoft Corporation, under MIT" in shown
    assert "Game-icons.net contributors (Lorc, Delapouite and others), under CC BY 3.0" in shown
    run("models", "add", str(STARTER), "--name", "copy", "--data", data)
    told = listed("--data", data)
    assert told["copy"]["attribution"] == told["starter"]["attribution"] != []


def test_weights_of_other_kinds_are_added_beside_models_of_their_name(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_safetensors(tmp_path / "one/ink.safetensors", LORA)
    write_safetensors(tmp_path / "two/ink.safetensors", SD1)
    net = {"_class_name": "ControlNetModel", "cross_attention_dim": 768}
    write_component(tmp_path / "canny", net, weights="diffusion_pytorch_model.safetensors")
    told = run("models", "add", str(tmp_path / "one/ink.safetensors"), "--data", data)
    assert "Added ink (lora, sd1," in told
    run("models", "add", str(tmp_path / "two/ink.safetensors"), "--data", data)
    run("models", "add", str(tmp_path / "canny"), "--data", data)
    assert set(listed("--data", data)) == {"starter", "ink"}
    everything = listed("--kind", "all", "--data", data)
    assert set(everything) == {"starter", "ink", "canny"}
    loras = listed("--kind", "lora", "--data", data)
    assert (loras["ink"]["kind"], loras["ink"]["family"]) == ("lora", "sd1")
    assert len(str(loras["ink"]["sha256"])) == 64
    assert "canny  controlnet  sd1" in run("models", "list", "--kind", "controlnet", "--data", data)
    shown = run("models", "show", "ink", "--kind", "lora", "--data", data)
    assert "defaults" not in shown
    again = fails(capsys, "models", "add", str(tmp_path / "one/ink.safetensors"), "--data", data)
    assert "The LoRA 'ink' is there already" in again
    assert "no upscaler" in fails(
        capsys, "models", "remove", "ink", "--kind", "upscaler", "--data", data
    )
    run("models", "remove", "ink", "--kind", "lora", "--data", data)
    assert set(listed("--kind", "all", "--data", data)) == {"starter", "ink", "canny"}
    assert not listed("--kind", "lora", "--data", data)
    taken = fails(
        capsys, "models", "add", str(tmp_path / "canny"), "--name", "loras", "--data", data
    )
    assert "can't be a model's name" in taken


def test_only_what_draws_is_copied(tmp_path: Path, data: str) -> None:
    folder = write_whole_folder(tmp_path / "photo")
    for spare in ("unet/model.fp16.safetensors", "unet/model.bin", "safety_checker/x.safetensors"):
        (folder / spare).parent.mkdir(exist_ok=True)
        (folder / spare).write_bytes(b"not needed")
    (folder / "README.md").write_text("what its author says")
    run("models", "add", str(folder), "--data", data)
    added = tmp_path / "data/models/photo"
    assert (added / "README.md").is_file()
    assert not list(added.rglob("*.bin"))
    assert not list(added.rglob("*fp16*"))
    assert not (added / "safety_checker").exists()


def test_what_must_not_be_added_is_refused_before_anything_is_copied(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "big", pipeline="StableDiffusionUpscalePipeline")
    (tmp_path / "old.ckpt").write_bytes(b"\x80")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("")
    (write_folder(tmp_path / "bare") / "unet/model.safetensors").unlink()
    write_safetensors(tmp_path / "cut.safetensors", SD1)
    cut = (tmp_path / "cut.safetensors").read_bytes()[:-3]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    for name, why in {
        "big": "no code",
        "old.ckpt": "is a pickle",
        "empty": "is no model",
        "text.txt": "is no model",
        "bare": "unet/*.safetensors is missing",
        "cut.safetensors": "truncated",
        "nowhere": "There is nothing at",
    }.items():
        assert why in fails(capsys, "models", "add", str(tmp_path / name), "--data", data)
    assert not (tmp_path / "data").exists()


def test_nothing_is_replaced_unless_that_is_asked_for(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("models", "add", str(write_whole_folder(tmp_path / "a/photo")), "--data", data)
    before = listed("--data", data)["photo"]
    other = str(write_whole_folder(tmp_path / "b/photo", fill=b"\1"))
    assert "--replace" in fails(capsys, "models", "add", other, "--data", data)
    assert listed("--data", data)["photo"] == before
    run("models", "add", other, "--replace", "--data", data)
    assert listed("--data", data)["photo"]["sha256"] != before["sha256"]
    assert "no model 'foto'" in fails(capsys, "models", "remove", "foto", "--data", data)


def test_from_a_disk_to_a_bucket_and_from_there_to_a_folder(
    tmp_path: Path, s3_server: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SFUMATO_S3_ENDPOINT", s3_server.endpoint)
    url = f"s3://{s3_bucket}/models"
    data = str(tmp_path / "data")
    with monkeypatch.context() as bucket:
        bucket.setenv("SFUMATO_MODELS_URL", url)
        folder = write_whole_folder(tmp_path / "photo", weights=10 << 20)
        run("models", "add", str(folder), "--data", data)
        in_bucket = listed("--data", data)
        assert set(in_bucket) == {"starter", "photo"}
    run("models", "add", f"{url}/photo", "--data", data)
    on_disk = listed("--data", data)
    assert on_disk["photo"]["sha256"] == in_bucket["photo"]["sha256"]
    assert not list((tmp_path / "data").glob(".adding-*"))
    monkeypatch.setenv("SFUMATO_MODELS_URL", url)
    run("models", "remove", "photo", "--data", str(tmp_path / "elsewhere"))
    assert set(listed("--data", str(tmp_path / "elsewhere"))) == {"starter"}


def test_a_wrong_place_is_named_with_its_setting(
    tmp_path: Path,
    s3_server: S3,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SFUMATO_S3_ENDPOINT", s3_server.endpoint)
    data = str(tmp_path / "data")
    for url, why in {
        "s3://no-such-bucket/models": "does not exist",
        "ftp://somewhere": "can't be kept at",
        str(tmp_path / "nowhere"): "There is no folder",
    }.items():
        monkeypatch.setenv("SFUMATO_MODELS_URL", url)
        told = fails(capsys, "models", "list", "--data", data)
        assert why in told
        assert "SFUMATO_MODELS_URL" in told
        result = runner.invoke(app, ["doctor", "--data", data])
        assert result.exit_code == 1
        assert why in result.stdout


class Hub(BaseHTTPRequestHandler):
    """What the hub's API answers for one repository, out of a folder."""

    folder: Path
    spoil = False
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/owner/photo"):
            self.reply(200, json.dumps(self.info()).encode())
        elif path.startswith("/owner/photo/resolve/"):
            content = (self.folder / path.split("/", 5)[5]).read_bytes()
            if self.spoil and path.endswith(".safetensors"):
                content = content[:-1] + b"!"
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            self.reply(206, content[int(first) : int(last) + 1])
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def info(self) -> dict[str, object]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            "id": "owner/photo",
            "sha": "0" * 40,
            "siblings": [
                {
                    "rfilename": path.relative_to(self.folder).as_posix(),
                    "size": path.stat().st_size,
                    "lfs": {
                        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                        "size": path.stat().st_size,
                        "pointerSize": 134,
                    },
                }
                for path in files
            ],
        }

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    constants = pytest.importorskip("huggingface_hub.constants", reason="comes with the engine")

    class OneHub(Hub):
        folder = tmp_path / "hub"

    OneHub.folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), OneHub)
    with Answering(httpd):
        address = f"http://127.0.0.1:{httpd.server_port}"
        # As HF_ENDPOINT sets them when the package is imported.
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield OneHub


def test_a_model_comes_from_a_hub(hub: type[Hub], data: str, tmp_path: Path) -> None:
    write_whole_folder(hub.folder, weights=10 << 20)
    run("models", "add", "hf:owner/photo", "--data", data)
    assert set(listed("--data", data)) == {"starter", "photo"}
    copied = tmp_path / "data/models/photo/unet/model.safetensors"
    assert copied.read_bytes() == (hub.folder / "unet/model.safetensors").read_bytes()
    write_safetensors(hub.folder / "one.safetensors", SD1)
    run("models", "add", "hf:owner/photo/one.safetensors@main", "--data", data)
    assert "one" in listed("--data", data)


def test_a_hubs_refusals_and_silences_leave_nothing(
    hub: type[Hub],
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(address: str) -> str:
        return fails(capsys, "models", "add", address, "--data", data)

    write_folder(hub.folder, pipeline="StableDiffusionUpscalePipeline")
    assert "no code" in told("hf:owner/photo")
    assert "no model 'owner/other'" in told("hf:owner/other")
    assert "names no repository" in told("hf:photo")
    write_whole_folder(hub.folder)
    monkeypatch.setattr(hub, "spoil", True)
    assert "is not what was published" in told("hf:owner/photo")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "The hub does not answer" in told("hf:owner/photo")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in told("hf:owner/photo")
    assert not list((tmp_path / "data").glob("models/*"))
    assert not list((tmp_path / "data").glob(".adding-*"))
