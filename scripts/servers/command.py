"""``scripts/services``: start what tests need and this machine lacks, and stop it again."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.servers import (
    PrivateAws,
    PrivatePostgres,
    PrivateRabbit,
    PrivateS3,
    compose,
    postgres,
    rabbitmq,
)
from scripts.servers.missing import Missing, install
from scripts.servers.process import Server
from scripts.servers.registry import FOLDER, NAMES, Entry, Process, Registry

_STARTED: dict[str, Callable[[Path | None], Server]] = {
    "postgres": PrivatePostgres,
    "rabbitmq": PrivateRabbit,
    "s3": PrivateS3,
    "aws": PrivateAws,
}
_FOUND: dict[str, Callable[[], str | None]] = {
    "postgres": postgres.postgres_here,
    "rabbitmq": rabbitmq.rabbitmq_here,
}
_PACKAGES = {"postgres": postgres.DEBIAN_PACKAGE, "rabbitmq": rabbitmq.DEBIAN_PACKAGE}


def found(name: str) -> Entry | None:
    """A server that this machine runs anyway."""
    url = _FOUND[name]() if name in _FOUND else None
    return None if url is None else Entry(url)


def private(name: str, folder: Path | None = None) -> Server:
    """A server of our own, not started yet.

    Raises:
        Missing: this machine has no program for it.
    """
    return _STARTED[name](folder)


def up(names: Sequence[str]) -> list[str]:
    """Start what is missing; answers what was started."""
    registry = Registry.read()
    # What was found is looked for again: it may be gone.
    ours = {name for name, entry in registry.servers.items() if entry.processes or entry.compose}
    missing = [name for name in names if name not in ours]
    started: list[str] = []
    with ThreadPoolExecutor(len(NAMES)) as threads:
        for name, outcome in zip(missing, threads.map(_find_or_start, missing), strict=True):
            registry.servers.pop(name, None)
            registry.missing.pop(name, None)
            if isinstance(outcome, Entry):
                registry.servers[name] = outcome
                if outcome.processes:
                    started.append(name)
            else:
                registry.missing[name] = outcome
    registry.write()
    return started


def _find_or_start(name: str) -> Entry | str:
    """The server, or why there is none."""
    if (here := found(name)) is not None:
        return here
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        server = _installed(name, folder)
    except Missing as reason:
        return str(reason)
    try:
        server.start()
    except RuntimeError as error:
        server.close()
        return str(error)
    processes = tuple(map(Process.of, server.pids))
    return Entry(server.url, processes, str(server.folder), tuple(map(str, server.litter)))


def _installed(name: str, folder: Path) -> Server:
    try:
        return private(name, folder)
    except Missing:
        if name in _PACKAGES:
            install(_PACKAGES[name])
        return private(name, folder)


def down(names: Sequence[str]) -> None:
    """Stop what ``up`` started, and remove its data; nothing else."""
    registry = Registry.read()
    for name in names:
        entry = registry.servers.pop(name, None)
        if entry is None:
            continue
        for process in entry.processes:
            process.end()
        if entry.folder is not None:
            shutil.rmtree(entry.folder, ignore_errors=True)
        for path in entry.litter:
            Path(path).unlink(missing_ok=True)
    registry.write()


def run(command: Sequence[str]) -> int:
    """Run a command between ``up`` and ``down``; answers its exit status."""
    told = threading.Event()
    # A Ctrl-C reaches the child too. It ends in its own way, and what was started ends after it.
    signal.signal(signal.SIGINT, lambda *_: told.set())
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    started = up(NAMES)
    try:
        report()
        if told.is_set():
            return 128 + signal.SIGINT
        with subprocess.Popen(command) as child:
            signal.signal(signal.SIGTERM, lambda *_: child.terminate())
            return child.wait()
    finally:
        down(started)


def report() -> None:
    registry = Registry.read()
    for name in NAMES:
        entry = registry.servers.get(name)
        if entry is None:
            print(f"{name:9} {registry.missing.get(name, 'not started')}")
        else:
            origin = f"pid {entry.processes[0].pid}" if entry.processes else "found"
            print(f"{name:9} {entry.url} ({'compose' if entry.compose else origin})")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/services", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start what is missing")
    start.add_argument("--docker", action="store_true", help="with Docker Compose")
    commands.add_parser("down", help="stop what was started")
    commands.add_parser("status", help="what runs, and where")
    around = commands.add_parser("run", help="run a command between up and down")
    around.add_argument("argv", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    if given.command == "run":
        return run(given.argv)
    if given.command == "up":
        if given.docker:
            compose.up()
        else:
            up(NAMES)
    elif given.command == "down":
        compose.down()
        down(NAMES)
    report()
    return 0
