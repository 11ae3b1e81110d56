"""The reference names every command and every option that there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from sfumato.cli.main import app

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
SECTIONS = REFERENCE.read_text().split("\n## ")


def options() -> Iterator[tuple[str, str]]:
    """(first word of the command, option) for everything that is not hidden."""
    root = typer.main.get_command(app)
    waiting = list(root.commands.items())  # type: ignore[attr-defined]
    while waiting:
        section, command = waiting.pop()
        waiting += [(section, below) for below in getattr(command, "commands", {}).values()]
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                yield from ((section, name) for name in parameter.opts if name.startswith("-"))


@pytest.mark.parametrize(("command", "option"), sorted(set(options())))
def test_the_reference_names_it(command: str, option: str) -> None:
    section = next(part for part in SECTIONS if f"sfumato {command}" in part.partition("\n")[0])
    assert f"`{option}" in section
