"""``sfumato models``: which models there are, and adding and removing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import Data, Json, Server, load_settings
from sfumato.cli.output import print_json, print_table, printable

if TYPE_CHECKING:
    from sfumato.client.results import Model
    from sfumato.core.models import ModelInfo
    from sfumato.core.ports import BytesProgress

app = typer.Typer(
    help="Which models there are; adding and removing them.",
    epilog="Example: sfumato models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog="Example: sfumato models list --server http://127.0.0.1:8080")
def list_models(server: Server = None, data: Data = None, json: Json = False) -> None:
    """List the models, with what a request gets that leaves a field out.

    Asks the service at --server, or the one running on the data folder; without one, looks where
    the models lie.
    """
    found = _models(server, data)
    if json:
        print_json([model.model_dump(mode="json") for model in found])
        return
    rows = [
        (
            f"{model.name} *" if model.default else model.name,
            model.family,
            _bytes(model.size_bytes),
            f"{model.defaults.width}x{model.defaults.height}",
            str(model.defaults.num_inference_steps),
            f"{model.defaults.guidance_scale:g}",
            model.defaults.sampler,
            ", ".join(model.loaded_on) or "-",
            model.refusal or model.title,
        )
        for model in found
    ]
    headers = ("MODEL", "FAMILY", "BYTES", "SIZE", "STEPS", "GUIDANCE", "SAMPLER", "LOADED ON")
    print_table((*headers, "ABOUT"), rows)


@app.command("show", epilog="Example: sfumato models show starter")
def show_model(
    name: Annotated[str, typer.Argument(help="As `sfumato models list` tells it.")],
    server: Server = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell everything about one model."""
    from sfumato.core.errors import UnknownModel  # noqa: PLC0415 - help needs none of these

    found = _models(server, data)
    model = next((model for model in found if model.name == name), None)
    if model is None:
        names = [model.name for model in found]
        raise UnknownModel(f"There is no model {name!r}.", field="model", accepted=names)
    if json:
        print_json(model.model_dump(mode="json"))
        return
    defaults = model.defaults
    rows = {
        "name": model.name,
        "title": model.title,
        "about": model.description,
        "family": model.family,
        "license": model.license,
        "bytes": f"{model.size_bytes:,}",
        "sha256": model.sha256 or "unknown: it was not added with `sfumato models add`",
        "memory": f"{_bytes(model.memory_bytes)} on a GPU, for one picture; about twice on a CPU",
        "defaults": f"{defaults.width}x{defaults.height}, {defaults.num_inference_steps} steps, "
        f"guidance {defaults.guidance_scale:g}, {defaults.sampler}",
        "loaded on": ", ".join(model.loaded_on) or "no worker",
        "refused": model.refusal or "",
    }
    for label, value in rows.items():
        if value:
            typer.echo(f"{label:<9}  {printable(value)}")


@app.command("add", epilog="Example: sfumato models add ~/Downloads/photo.safetensors --name photo")
def add_model(
    origin: Annotated[
        str,
        typer.Argument(
            metavar="PATH|s3://…|hf:OWNER/NAME",
            help="A folder in diffusers' layout or a .safetensors file, on disk, in a bucket, or "
            "on the Hugging Face hub.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="What requests call it; its own name when left out.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of the same name.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Copy a model to where models are kept: SFUMATO_MODELS_URL, or `models` in the data folder.

    It can be asked for once it is there as a whole, and never before. Pickles, and models that
    this version has no code for, are refused before anything is copied.
    """
    settings = load_settings(data)
    from sfumato.bootstrap.models import add_model as add  # noqa: PLC0415

    with _progress() as progress:
        model = add(settings, origin, name=name, replacing=replace, progress=progress)
    if json:
        print_json(_view(model, settings.default_model).model_dump(mode="json"))
        return
    typer.echo(f"Added {model.name} ({model.family}, {_bytes(model.size_bytes)}).")


@app.command("remove", epilog="Example: sfumato models remove photo")
def remove_model(
    name: Annotated[str, typer.Argument(help="As it was added.")], data: Data = None
) -> None:
    """Delete a model from where models are kept. Jobs that run keep the copy they have."""
    settings = load_settings(data)
    from sfumato.bootstrap.models import remove_model as remove  # noqa: PLC0415

    count = remove(settings, name)
    typer.echo(f"Removed {name}, {count} file{'' if count == 1 else 's'}.")


def _models(server: str | None, data: Path | None) -> Sequence[Model]:
    from sfumato.bootstrap.folder import running_service  # noqa: PLC0415 - help needs none of these
    from sfumato.client import Client  # noqa: PLC0415

    settings = load_settings(data)
    url = server or running_service(settings)
    if url is not None:
        with Client(url) as client:
            return client.models()
    from sfumato.bootstrap.models import open_catalog  # noqa: PLC0415

    return [_view(model, settings.default_model) for model in open_catalog(settings).list()]


def _view(model: ModelInfo, default: str) -> Model:
    from sfumato.client.results import Model  # noqa: PLC0415

    return Model.model_validate(
        {
            **asdict(model),
            "sizes": [{"width": width, "height": height} for width, height in model.sizes],
            "sha256": model.sha256 or None,
            "default": model.name == default,
        }
    )


def _bytes(count: int) -> str:
    """A size for people, as 4.3 GB."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


@contextmanager
def _progress() -> Iterator[Callable[[str], BytesProgress]]:
    """A bar on standard error for each phase; nothing where that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:

        def phase(words: str) -> BytesProgress:
            task = shown.add_task(words, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield phase
