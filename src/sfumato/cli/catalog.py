"""``sfumato models`` and ``sfumato runtimes``: what a running service offers."""

from __future__ import annotations

import typer

from sfumato.cli.options import Data, Json, Server, find_server
from sfumato.cli.output import print_json, print_table

models = typer.Typer(
    help="The models of a running service.",
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
    """List the models, with what a request gets that leaves a field out."""
    from sfumato.client import Client  # noqa: PLC0415 - httpx costs help its speed

    with Client(find_server(server, data)) as client:
        found = client.models()
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
