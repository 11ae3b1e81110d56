from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.adapters.models import FolderModelCatalog
from sfumato.bootstrap.models import STARTER
from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.models import ModelDefaults, ModelInfo, ModelKind, ModelLayout
from tests.support.model_files import SD1, SD2, write_folder, write_safetensors, write_whole_folder


def by_name(catalogue: FolderModelCatalog) -> dict[str, ModelInfo]:
    return {model.name: model for model in catalogue.list()}


def test_folders_and_files_are_found_with_family_and_defaults(tmp_path: Path) -> None:
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "deep/two", width=1024, sample_size=96)
    write_folder(tmp_path / "sd-turbo", width=1024)
    write_folder(tmp_path / "lcm", time_cond_proj_dim=256)
    write_safetensors(tmp_path / "deep/photo.safetensors", SD1)
    write_safetensors(tmp_path / "v2.safetensors", SD2)
    write_safetensors(tmp_path / "v2-768.safetensors", SD2)
    (tmp_path / "v2-768.yaml").write_text('model:\n  parameterization: "v"\n')
    models = by_name(FolderModelCatalog([tmp_path]))
    assert {
        name: (model.family, model.layout, model.refusal) for name, model in models.items()
    } == {
        "one": ("sd1", ModelLayout.DIFFUSERS, None),
        "two": ("sd2", ModelLayout.DIFFUSERS, None),
        "sd-turbo": ("sd2", ModelLayout.DIFFUSERS, None),
        "lcm": ("sd1", ModelLayout.DIFFUSERS, None),
        "photo": ("sd1", ModelLayout.CHECKPOINT, None),
        "v2": ("sd2", ModelLayout.CHECKPOINT, None),
        "v2-768": ("sd2", ModelLayout.CHECKPOINT, None),
    }
    assert models["one"].defaults == ModelDefaults(512, 512, 25, 7.0)
    assert models["two"].defaults.width == 768
    assert models["sd-turbo"].defaults == ModelDefaults(512, 512, 1, 0.0, "euler")
    assert models["lcm"].defaults == ModelDefaults(512, 512, 4, 8.0, "lcm")
    assert models["v2-768"].defaults.height == 768
    assert models["photo"].size_bytes == (tmp_path / "deep/photo.safetensors").stat().st_size
    assert models["one"].size_bytes > 0


def test_pickles_are_listed_with_the_reason_and_never_opened(tmp_path: Path) -> None:
    for suffix in (".ckpt", ".pt", ".pth", ".bin"):
        (tmp_path / f"old{suffix[1:]}{suffix}").write_bytes(b"\x80\x04 not to be read")
        (tmp_path / f"old{suffix[1:]}{suffix}").chmod(0)
    folder = write_folder(tmp_path / "half")
    (folder / "vae/model.safetensors").unlink()
    (folder / "vae/diffusion_pytorch_model.bin").write_bytes(b"\x80")
    catalogue = FolderModelCatalog([tmp_path])
    models = by_name(catalogue)
    assert set(models) == {"oldckpt", "oldpt", "oldpth", "oldbin", "half"}
    for name, model in models.items():
        with pytest.raises(ModelRefused, match=r"is a pickle.*Convert it to safetensors"):
            catalogue.get(name, model.kind)


def test_foreign_models_are_listed_by_what_they_are(tmp_path: Path) -> None:
    write_folder(tmp_path / "big", pipeline="StableDiffusionUpscalePipeline")
    write_safetensors(tmp_path / "style.safetensors", {"lora_unet_down": [1]})
    models = by_name(FolderModelCatalog([tmp_path]))
    assert "StableDiffusionUpscalePipeline" in (models["big"].refusal or "")
    assert (models["style"].kind, models["style"].refusal) == (ModelKind.LORA, None)


def test_a_broken_entry_never_hides_others(tmp_path: Path) -> None:
    write_folder(tmp_path / "good")
    (write_folder(tmp_path / "no-json") / "unet/config.json").write_text("{")
    (write_folder(tmp_path / "no-dict") / "model_index.json").write_text("[]")
    (write_folder(tmp_path / "no-manifest") / "sfumato.json").write_text('{"sizes": 3}')
    (write_folder(tmp_path / "bad-default") / "sfumato.json").write_text('{"defaults": []}')
    (tmp_path / "cut.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    models = by_name(FolderModelCatalog([tmp_path]))
    assert models.pop("good").refusal is None
    # Listed without a refusal: a job that asks for it fails and names the damage.
    assert models.pop("cut").refusal is None
    assert all("is broken" in (model.refusal or "") for model in models.values())
    assert set(models) == {"no-json", "no-dict", "no-manifest", "bad-default", "gone"}


def test_a_manifest_says_more(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder")
    manifest = {
        "name": "starter",
        "title": "Starter",
        "license": "Apache-2.0",
        "sizes": [[128, 128], [128, 192]],
        "defaults": {"width": 128, "height": 128, "guidance_scale": 3.5},
        "vocabulary": ["Castle", "night"],
        "attribution": ["Drawings by Ann, under CC BY 4.0"],
        "sd version": "another program's key",
    }
    (folder / "sfumato.json").write_text(json.dumps(manifest))
    model = FolderModelCatalog([tmp_path]).get("starter")
    assert (model.title, model.license) == ("Starter", "Apache-2.0")
    assert model.sizes == ((128, 128), (128, 192))
    assert model.defaults == ModelDefaults(128, 128, 25, 3.5)
    assert model.vocabulary == {"castle", "night"}
    assert model.attribution == ("Drawings by Ann, under CC BY 4.0",)


def test_the_default_is_the_one_named_else_the_built_in_else_the_first(tmp_path: Path) -> None:
    builtin = write_folder(tmp_path / "builtin/zebra")
    folder = tmp_path / "models"
    write_folder(folder / "alpha")
    assert FolderModelCatalog([folder], builtin=builtin).get(None).name == "zebra"
    assert FolderModelCatalog([folder], builtin=builtin, default="alpha").get(None).name == "alpha"
    assert FolderModelCatalog([folder], builtin=tmp_path / "none").get(None).name == "alpha"
    (tmp_path / "models/alpha/model_index.json").unlink()
    with pytest.raises(UnknownModel, match="no model yet; searched"):
        FolderModelCatalog([folder, tmp_path / "nowhere"]).get(None)


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a/photo.safetensors", SD1)
    write_safetensors(tmp_path / "b/photo.safetensors", SD2)
    models = by_name(FolderModelCatalog([tmp_path / "a", tmp_path / "b", tmp_path]))
    assert {name: model.family for name, model in models.items()} == {
        "photo": "sd1",
        "photo-2": "sd2",
    }


def test_changes_on_disk_are_seen_and_what_is_unchanged_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.safetensors"
    write_safetensors(path, SD1)
    catalogue = FolderModelCatalog([tmp_path])
    assert catalogue.get("photo").family == "sd1"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", None)
        assert catalogue.get("photo").family == "sd1"
    write_safetensors(path, SD2)
    os.utime(path, ns=(1, 1))
    assert catalogue.get("photo").family == "sd2"
    path.unlink()
    with pytest.raises(UnknownModel):
        catalogue.get("photo")


def test_it_imports_no_torch() -> None:
    code = "import sys, sfumato.adapters.models\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "False"


def test_a_folder_that_is_copied_file_by_file_is_refused_until_it_is_whole(
    tmp_path: Path,
) -> None:
    whole = write_whole_folder(tmp_path / "whole")
    names = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    coming = tmp_path / "models/coming"
    catalogue = FolderModelCatalog([tmp_path / "models"])
    for last in names:
        for name in [*(other for other in names if other != last), last]:
            with pytest.raises((ModelRefused, UnknownModel)):
                catalogue.get("coming")
            target = coming / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = (whole / name).read_bytes()
            target.write_bytes(content[: len(content) // 2])
            catalogue._look()
            if name.suffix == ".safetensors":
                with pytest.raises((ModelRefused, UnknownModel)):
                    catalogue.get("coming")
            target.write_bytes(content)
            catalogue._look()
        assert catalogue.get("coming").refusal is None
        shutil.rmtree(coming)


async def test_a_look_that_is_asked_for_sees_what_is_new(tmp_path: Path) -> None:
    catalogue = FolderModelCatalog([tmp_path])
    assert not catalogue.list()
    write_folder(tmp_path / "new")
    await catalogue.refresh()
    assert [model.name for model in catalogue.list()] == ["new"]


def test_memory_needed_counts_the_networks_that_draw(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder")
    write_safetensors(tmp_path / "file.safetensors", {**SD1, "model_ema.copy": [1 << 20]})
    models = by_name(FolderModelCatalog([tmp_path]))
    beside = (512 << 20) + 512 * 512 * 3072
    assert models["folder"].memory_bytes == 2 * 6 + beside
    assert models["file"].memory_bytes == 2 * (320 * 4 * 9 + 2) + beside


def test_get_reads_nothing_but_the_asked_models_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "one")
    catalogue = FolderModelCatalog([tmp_path])
    catalogue.list()
    monkeypatch.setattr(catalogue, "_look", None)
    catalogue._looked_at = 0.0
    assert catalogue.get("one").name == "one"


def test_the_starter_is_what_its_manifest_says() -> None:
    """After a change to its files: `sfumato models add src/sfumato/weights/starter --data DIR`
    writes a new one to DIR/models/starter."""
    starter = FolderModelCatalog([], builtin=STARTER).get(None)
    assert starter.sha256
    for file in starter.files:
        assert file.sha256 == hashlib.sha256((STARTER / file.path).read_bytes()).hexdigest()
