"""``sfumato runtimes``: the pools of workers."""

from __future__ import annotations

import typer

from sfumato.cli.options import Data, Json, Key, Server
from sfumato.cli.output import print_json, print_table

app = typer.Typer(
    help="The pools of workers of a running service.",
    epilog="Example: sfumato runtimes list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog="Example: sfumato runtimes list --json")
def list_runtimes(
    server: Server = None, key: Key = None, data: Data = None, json: Json = False
) -> None:
    """List the runtimes and what each is doing now."""
    from sfumato.cli.connection import open_client  # noqa: PLC0415 - httpx costs help its speed

    with open_client(server, key, data) as client:
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
