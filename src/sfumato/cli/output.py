"""What the commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer

from sfumato.core.charges import Charge
from sfumato.core.errors import SfumatoError
from sfumato.core.job import Timings

#: The code of what the operating system refuses.
OS_ERROR = "os_error"


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_json_line(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """Text from elsewhere, with nothing left in it that could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under headers; on a terminal the last column is cut to the width."""
    cells = [headers, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(padded).rstrip()[:room])


def describe_charge(charge: Charge) -> str | None:
    """As ``2.50 s, 0.0007 USD``; None for what took nothing."""
    if not charge:
        return None
    cost = "" if charge.cost is None else f", {charge.cost:.4f} {charge.currency}"
    return f"{charge.gpu_seconds:.2f} s{cost}"


def describe_timings(timings: Timings) -> str:
    """As ``queued 0.00 s · starting 2.12 s · … · storing 0.03 s``."""
    return " · ".join(f"{phase} {spent:.2f} s" for phase, spent in asdict(timings).items())


def print_error(facts: Mapping[str, Any], *, as_json: bool = False) -> None:
    """One line: for people, in red, ending in its stable code; for programs, in JSON."""
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False), err=True)
        return
    accepted, code = facts.get("accepted"), facts.get("code")
    line = facts["message"]
    if accepted:
        line += f" Accepted: {accepted if isinstance(accepted, str) else ', '.join(accepted)}."
    if code != OS_ERROR:
        line += f" ({code})"
    typer.secho(f"Error: {printable(line)}", fg=typer.colors.RED, err=True)


def error_facts(error: Exception) -> dict[str, Any] | None:
    """What is known of an error that was raised on purpose: ``code``, ``message`` and, where known,
    ``field`` and ``accepted``; None for a defect, which deserves its traceback."""
    from sfumato.client.errors import ClientError  # noqa: PLC0415 - only when something failed

    if isinstance(error, SfumatoError):
        return error.as_dict()
    if isinstance(error, ClientError):
        known = {"field": error.field, "accepted": error.accepted}
        told = {name: value for name, value in known.items() if value is not None}
        return {"code": error.code, "message": error.message, **told}
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return {"code": OS_ERROR, "message": f"{place}{error.strerror}"}
    return None
