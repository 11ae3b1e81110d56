"""``sfumato models plan``: the memory that a model needs, and the smallest GPU that has it."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import Data, Json, load_settings
from sfumato.cli.output import print_json
from sfumato.core.errors import InvalidRequest

if TYPE_CHECKING:
    from sfumato.core.planning import GpuClass, Plan


def plan(
    name: Annotated[str, typer.Argument(help="As `sfumato models list` tells it.")],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT", help="Of the pictures; the model's own when left out."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that share a step.")] = 1,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell what memory a model needs on a GPU, and which is the smallest class that has it.

    Reads the headers of the model's files and loads nothing; no GPU is needed.
    """
    settings = load_settings(data)
    from sfumato.bootstrap.models import plan_model  # noqa: PLC0415 - help needs none of it

    planned = plan_model(settings, name, size=_size(size), batch=batch)
    if json:
        print_json({**asdict(planned), "weights_total": planned.weights_total})
        return
    for label, value in _told(planned).items():
        typer.echo(f"{label:<10} {value}")


def _told(plan: Plan) -> dict[str, str]:
    parts = ", ".join(f"{network} {_gib(size)}" for network, size in plan.weights.items())
    stored = ", ".join(f"{dtype} {_gib(size)}" for dtype, size in plan.stored.items())
    return {
        "model": plan.model,
        "for": f"{plan.batch} x {plan.width}x{plan.height}, {plan.rows} rows a step",
        "stored": stored,
        "weights": f"{_gib(plan.weights_total)} in half precision: {parts}",
        "step": f"{_gib(plan.step)}, an estimate",
        "decode": f"{_gib(plan.decode)}, an estimate",
        "libraries": _gib(plan.libraries),
        "needed": f"{_gib(plan.needed)}, with what a worker leaves free",
        "whole GPU": _class(plan.whole),
        "smallest": _class(plan.smallest),
    }


def _class(gpu: GpuClass | None) -> str:
    if gpu is None:
        return "none of those known; draw smaller pictures, or fewer together"
    parts = f", one of {gpu.slices}" if gpu.slices > 1 else ""
    return f"{gpu.name} ({_gib(gpu.memory)}{parts})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _size(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", given)
    if sides is None:
        raise InvalidRequest(
            f"--size is {given!r}.", field="size", accepted="two numbers of pixels, as 1024x1024"
        )
    return int(sides[1]), int(sides[2])
