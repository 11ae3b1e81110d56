"""``sfumato completion``: what a shell reads to complete commands, options and their choices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print what a shell completes `sfumato` with, to be read when it starts.

    For bash, in ~/.bashrc: `eval "$(sfumato completion bash)"`. For zsh, in ~/.zshrc after compinit:
    `eval "$(sfumato completion zsh)"`. For fish: `sfumato completion fish >
    ~/.config/fish/completions/sfumato.fish`.
    """
    from typer.completion import shell_complete  # noqa: PLC0415 - not for every command

    root = context.find_root().command
    shell_complete(root, {}, "sfumato", "_SFUMATO_COMPLETE", f"source_{shell.value}")
