"""``sfumato batch``: many requests out of a file, their pictures into a folder, and on again after
whatever stopped it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import Data, Json, Key, Server
from sfumato.cli.output import print_error, print_json
from sfumato.cli.progress import Display, Stage, display

if TYPE_CHECKING:
    from sfumato.cli.batches.ledger import Ledger
    from sfumato.cli.batches.lines import Line
    from sfumato.cli.batches.running import Outcome
    from sfumato.cli.connection import Address

_STDIN = "-"


def batch(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="JSON Lines, a request each; - reads standard input."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "--output", "-o", metavar="DIR", help="Folder for pictures and results.jsonl."
        ),
    ],
    concurrency: Annotated[
        int, typer.Option(min=1, max=32, help="How many lines are under way at once.")
    ] = 8,
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Draw every line of a file into a folder; run again, go on with what is not done.

    Each line is a request as `POST /v1/jobs` takes it. results.jsonl in the folder keeps what became
    of each. A line that can't be drawn is named with its number, and the others are drawn all the
    same; the status is then 1.
    """
    from sfumato.cli.batches.ledger import Ledger  # noqa: PLC0415 - help needs none of these
    from sfumato.cli.batches.lines import BadLine, read_lines  # noqa: PLC0415
    from sfumato.cli.connection import Target, on_service  # noqa: PLC0415
    from sfumato.cli.generate import check_folder  # noqa: PLC0415

    path = Path(file)
    from_stdin = file == _STDIN
    content = sys.stdin.buffer.read() if from_stdin else path.read_bytes()
    folder = Path() if from_stdin else path.parent
    lines = read_lines(content, name=path.name, folder=folder)
    target = Target.of(server, key, data)
    check_folder(out)
    with Ledger.held(out) as ledger, display(as_json=json) as shown:
        report = _Report(out, shown, total=len(lines), as_json=json)
        left = []
        for line in lines:
            if isinstance(line, BadLine):
                report.failure(line.number, line.error.as_dict())
            elif ledger.done(line.identity):
                report.before += 1
            else:
                left.append(line)
        if left:
            on_service(
                target,
                shown,
                lambda address: _draw(address, ledger, report, left, concurrency=concurrency),
            )
    report.end(ledger)
    if report.failed:
        raise typer.Exit(1)


def _draw(
    address: Address, ledger: Ledger, report: _Report, lines: list[Line], *, concurrency: int
) -> None:
    """Lines that are settled leave the list, so that another service goes on with the others."""
    from sfumato.cli.batches.running import Batch  # noqa: PLC0415 - the service starts meanwhile
    from sfumato.client import AsyncClient  # noqa: PLC0415

    def told(outcome: Outcome) -> None:
        lines.remove(outcome.line)
        report.outcome(outcome)

    async def run() -> None:
        # More patience than for one picture: a service may be restarted under a long batch.
        async with AsyncClient(address.url, key=address.key, retries=5) as client:
            batch = Batch(client, ledger, report.folder, told)
            await batch.run(tuple(lines), concurrency=concurrency)

    asyncio.run(run())


class _Report:
    """What is told of a batch while it is drawn, and at its end."""

    def __init__(self, folder: Path, shown: Display, *, total: int, as_json: bool) -> None:
        self.folder = folder
        self.before = self.drawn = self.failed = 0
        self._shown = shown
        self._total = total
        self._as_json = as_json

    def outcome(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.failure(outcome.line.number, outcome.error)
            return
        self.drawn += 1
        if not self._as_json:
            for file in outcome.files:
                typer.echo(f"{self.folder / file['name']}  seed {file['seed']}")
        settled = self.before + self.drawn + self.failed
        self._shown.show(Stage(f"{settled} of {self._total} lines", settled, self._total))

    def failure(self, number: int, facts: dict[str, object]) -> None:
        self.failed += 1
        if self._as_json:
            print_error({"line": number, **facts}, as_json=True)
        else:
            print_error({**facts, "message": f"line {number}: {facts['message']}"})

    def end(self, ledger: Ledger) -> None:
        if self._as_json:
            print_json(
                {
                    "drawn": self.drawn,
                    "done_before": self.before,
                    "failed": self.failed,
                    "results": str(ledger.path),
                }
            )
            return
        typer.echo(
            f"{self.drawn} drawn, {self.before} done before, {self.failed} failed: {ledger.path}"
        )
