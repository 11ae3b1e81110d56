"""``sfumato models`` and ``sfumato runtimes``: what there is to draw with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sfumato.cli.options import Data, Json, Server, find_server, load_settings
from sfumato.cli.output import print_json, print_table

if TYPE_CHECKING:
    from sfumato.client.results import Model

models = typer.Typer(
    help="Which models there are.",
    epilog="Example: sfumato models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
runtimes = typer.Typer(
    help="The pools of workers of a running service.",
    epilog="Example: sfumato runtimes list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@models.command("list", epilog="Example: sfumato models list --server http://127.0.0.1:8080")
def list_models(server: Server = None, data: Data = None, json: Json = False) -> None:
    """List the models, with what a request gets that leaves a field out.

    Asks the service at --server, or the one running on the data folder; without one, looks into
    the data folder itself.
    """
    found = _models(server, data)
    if json:
        print_json([model.model_dump(mode="json") for model in found])
        return
    rows = [
        (
            f"{model.name} *" if model.default else model.name,
            model.family,
            f"{model.defaults.width}x{model.defaults.height}",
            str(model.defaults.num_inference_steps),
            f"{model.defaults.guidance_scale:g}",
            model.defaults.sampler,
            model.refusal or model.title,
        )
        for model in found
    ]
    print_table(("MODEL", "FAMILY", "SIZE", "STEPS", "GUIDANCE", "SAMPLER", "ABOUT"), rows)


def _models(server: str | None, data: Path | None) -> Sequence[Model]:
    from sfumato.bootstrap.folder import running_service  # noqa: PLC0415 - help needs none of these
    from sfumato.client import Client  # noqa: PLC0415

    settings = load_settings(data)
    url = server or running_service(settings)
    if url is not None:
        with Client(url) as client:
            return client.models()
    from sfumato.bootstrap.parts import open_catalog  # noqa: PLC0415
    from sfumato.client.results import Model  # noqa: PLC0415

    return [
        Model.model_validate(
            {
                **asdict(model),
                "sizes": [{"width": width, "height": height} for width, height in model.sizes],
                "default": model.name == settings.default_model,
            }
        )
        for model in open_catalog(settings).list()
    ]


@runtimes.command("list", epilog="Example: sfumato runtimes list --json")
def list_runtimes(server: Server = None, data: Data = None, json: Json = False) -> None:
    """List the runtimes and what each is doing now."""
    from sfumato.client import Client  # noqa: PLC0415

    with Client(find_server(server, data)) as client:
        found = client.runtimes()
    if json:
        print_json([runtime.model_dump(mode="json") for runtime in found])
        return
    rows = [
        (
            runtime.name,
            f"{len(runtime.workers)}/{runtime.max_workers}",
            str(runtime.queued),
            str(runtime.running),
            ", ".join(runtime.models) or "every model",
            runtime.waiting or "",
        )
        for runtime in found
    ]
    print_table(("RUNTIME", "WORKERS", "QUEUED", "RUNNING", "SERVES", "WAITING"), rows)
