"""``sfumato costs``: what the jobs of a running service took of its GPUs, and what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import Data, Json, Key, Server
from sfumato.cli.output import print_json, print_table
from sfumato.core.charges import CostGroup

if TYPE_CHECKING:
    from sfumato.client.costs import CostTotal

_Moment = Annotated[str | None, typer.Option(metavar="DATE", help="As 2026-11-21, by UTC.")]


def costs(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    by: Annotated[
        list[CostGroup] | None,
        typer.Option(help="What totals are told apart by; may be given again.", show_default=True),
    ] = None,
    since: _Moment = None,
    until: _Moment = None,
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell what jobs took of the GPUs, and what that cost: of the last 30 days, unless asked else.

    A key sees what its own jobs cost; one that may see all jobs sees everybody's.
    """
    from sfumato.cli.connection import open_client  # noqa: PLC0415 - httpx costs help its speed

    groups = [group.value for group in by or [CostGroup.MODEL]]
    with open_client(server, key, data) as client:
        found = client.costs(by=groups, since=since, until=until)
    if json:
        print_json([total.model_dump(mode="json") for total in found])
        return
    rows = [
        (
            *(_name(total, group) for group in groups),
            str(total.jobs),
            str(total.images),
            f"{total.gpu_seconds:.1f}",
            "-" if total.cost is None else f"{total.cost:.4f} {total.currency}",
        )
        for total in found
    ]
    headers = (*(group.upper() for group in groups), "JOBS", "IMAGES", "GPU SECONDS", "COST")
    print_table(headers, rows)


def _name(total: CostTotal, group: str) -> str:
    if group == CostGroup.KEY:
        return total.key_name or total.key or "no key"
    return str(getattr(total, group))
