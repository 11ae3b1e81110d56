"""``sfumato models``: which weights of each kind there are, and adding and removing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfumato.cli.options import Data, Json, Key, Server, load_settings
from sfumato.cli.output import print_json, print_table, printable

if TYPE_CHECKING:
    from sfumato.cli.connection import Target
    from sfumato.client.offers import Model
    from sfumato.core.models import ModelInfo
    from sfumato.core.ports import BytesProgress

#: As :class:`sfumato.core.models.ModelKind`, which help need not import.
Kind = Literal["base", "lora", "embedding", "controlnet", "vae", "upscaler", "safety"]
_Kind = Annotated[Kind, typer.Option(help="What it is for.", show_default=True)]

app = typer.Typer(
    help="Which models, LoRAs and other weights there are; adding and removing them.",
    epilog="Example: sfumato models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog="Example: sfumato models list --server http://127.0.0.1:8080")
def list_models(
    kind: Annotated[
        Literal[Kind, "all"], typer.Option(help="What they are for.", show_default=True)
    ] = "base",
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List the models, with what a request gets that leaves a field out; or weights of another kind.

    Asks the service at --server, or the one running on the data folder; without one, looks where
    the models lie.
    """
    from sfumato.cli.connection import Target  # noqa: PLC0415 - help needs none of it

    found = _models(Target.of(server, key, data), kind)
    if json:
        print_json([model.model_dump(mode="json") for model in found])
    elif kind == "base":
        _print_bases(found)
    else:
        rows = [
            (
                model.name,
                model.kind,
                model.family or "any",
                _bytes(model.size_bytes),
                model.refusal or " ".join(filter(None, (model.title, model.description))),
            )
            for model in found
        ]
        print_table(("NAME", "KIND", "FAMILY", "BYTES", "ABOUT"), rows)


def _print_bases(found: Sequence[Model]) -> None:
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
def show_model(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    name: Annotated[str, typer.Argument(help="As `sfumato models list` tells it.")],
    kind: _Kind = "base",
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell everything about one model."""
    from sfumato.cli.connection import Target  # noqa: PLC0415 - help needs none of it
    from sfumato.core.errors import UnknownModel  # noqa: PLC0415 - help needs none of these

    found = _models(Target.of(server, key, data), kind)
    model = next((model for model in found if model.name == name), None)
    if model is None:
        names = [model.name for model in found]
        what = "model" if kind == "base" else kind
        raise UnknownModel(f"There is no {what} {name!r}.", field="model", accepted=names)
    if json:
        print_json(model.model_dump(mode="json"))
        return
    for label, value in _told(model).items():
        if value:
            typer.echo(f"{label:<9}  {printable(value)}")
    for number, line in enumerate(model.attribution):
        typer.echo(f"{'' if number else 'made from':<9}  {printable(line)}")


def _told(model: Model) -> dict[str, str]:
    rows = {
        "name": model.name,
        "title": model.title,
        "about": model.description,
        "kind": model.kind,
        "family": model.family,
        "license": model.license,
        "bytes": f"{model.size_bytes:,}",
        "sha256": model.sha256 or "unknown: it was not added with `sfumato models add`",
    }
    memory, defaults = _bytes(model.memory_bytes), model.defaults
    if model.kind == "base":
        rows |= {
            "memory": f"{memory} on a GPU, for one picture; about twice on a CPU",
            "defaults": f"{defaults.width}x{defaults.height}, {defaults.num_inference_steps} "
            f"steps, guidance {defaults.guidance_scale:g}, {defaults.sampler}",
            "loaded on": ", ".join(model.loaded_on) or "no worker",
        }
    else:
        rows["memory"] = f"{memory} on a GPU, about twice on a CPU"
    return {**rows, "refused": model.refusal or ""}


@app.command("add", epilog="Example: sfumato models add ~/Downloads/photo.safetensors --name photo")
def add_model(
    origin: Annotated[
        str,
        typer.Argument(
            metavar="PATH|s3://…|hf:OWNER/NAME",
            help="A folder in diffusers' layout or a .safetensors file, of a model, a LoRA or "
            "whatever else, on disk, in a bucket, or on the Hugging Face hub.",
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
    kind = "" if model.kind.value == "base" else model.kind.value
    told = ", ".join(filter(None, (kind, model.family, _bytes(model.size_bytes))))
    typer.echo(f"Added {model.name} ({told}).")


@app.command("remove", epilog="Example: sfumato models remove photo")
def remove_model(
    name: Annotated[str, typer.Argument(help="As it was added.")],
    kind: _Kind = "base",
    data: Data = None,
) -> None:
    """Delete a model from where models are kept. Jobs that run keep the copy they have."""
    settings = load_settings(data)
    from sfumato.bootstrap.models import remove_model as remove  # noqa: PLC0415
    from sfumato.core.models import ModelKind  # noqa: PLC0415

    count = remove(settings, name, ModelKind(kind))
    typer.echo(f"Removed {name}, {count} file{'' if count == 1 else 's'}.")


def _models(target: Target, kind: str) -> Sequence[Model]:
    address = target.running()
    if address is not None:
        with address.client() as client:
            return client.models(kind=kind)
    from sfumato.bootstrap.models import open_catalog  # noqa: PLC0415

    return [
        _view(model, target.settings.default_model)
        for model in open_catalog(target.settings).list()
        if kind in (model.kind.value, "all")
    ]


def _view(model: ModelInfo, default: str) -> Model:
    from sfumato.client.offers import Model  # noqa: PLC0415

    return Model.model_validate(
        {
            **asdict(model),
            "sizes": [{"width": width, "height": height} for width, height in model.sizes],
            "sha256": model.sha256 or None,
            "default": (model.kind.value, model.name) == ("base", default),
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
