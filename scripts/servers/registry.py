"""Which servers run for tests: a JSON file in the checkout, written by ``scripts/services``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.servers.process import kill_family

FOLDER = Path(__file__).parents[2] / ".cache" / "services"
_FILE = FOLDER / "services.json"

#: What tests may ask for.
NAMES = ("postgres", "rabbitmq", "s3", "aws")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started; its time of birth tells it from a later one of the same id."""

    pid: int
    born: float

    @classmethod
    def of(cls, pid: int) -> Process:
        import psutil  # noqa: PLC0415 - nothing but the standard library at import

        return cls(pid, psutil.Process(pid).create_time())

    def alive(self) -> bool:
        import psutil  # noqa: PLC0415

        try:
            found = psutil.Process(self.pid)
            return found.create_time() == self.born and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def end(self) -> None:
        if self.alive():
            kill_family(self.pid)


@dataclass(frozen=True, slots=True)
class Entry:
    """One server. ``processes``: none, where it was found rather than started."""

    url: str
    processes: tuple[Process, ...] = ()
    folder: str | None = None
    #: What it leaves elsewhere.
    litter: tuple[str, ...] = ()
    #: Started by Docker Compose.
    compose: bool = False

    @property
    def usable(self) -> bool:
        """Whether what we started still runs; what was found is taken at its word."""
        return all(process.alive() for process in self.processes)


@dataclass(frozen=True, slots=True)
class Registry:
    """``servers`` by name, and why others are ``missing``."""

    servers: dict[str, Entry] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Registry:
        """What was written last, without what has ended since."""
        try:
            found = json.loads(_FILE.read_text())
        except FileNotFoundError:
            return cls()
        servers = {
            name: Entry(
                entry["url"],
                tuple(Process(**process) for process in entry["processes"]),
                entry["folder"],
                tuple(entry["litter"]),
                entry["compose"],
            )
            for name, entry in found["servers"].items()
        }
        usable = {name: entry for name, entry in servers.items() if entry.usable}
        return cls(usable, found["missing"])

    def write(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = _FILE.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n")
        unfinished.replace(_FILE)
