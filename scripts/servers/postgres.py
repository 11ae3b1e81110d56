"""PostgreSQL: this machine's, or one of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT

from scripts.servers.missing import Missing
from scripts.servers.process import Server

DEBIAN_PACKAGE = "postgresql"
_PASSWORD = "sfumato"
_USUAL = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    "postgresql://postgres:postgres@127.0.0.1:5432/postgres",
    "postgresql:///postgres?host=/var/run/postgresql",
    "postgresql://postgres@/postgres?host=/var/run/postgresql",
)


class PrivatePostgres(Server):
    """A PostgreSQL that asks for its password.

    Raises:
        Missing: there is no ``postgres`` here, or no user that it would run as.
    """

    name = "postgres"
    #: "Fast" shutdown: it ends sessions rather than wait for them.
    stop_signal = SIGINT

    def __init__(self, folder: Path | None = None) -> None:
        self._programs = _programs()
        self.user = _unprivileged_user()
        if self.user is not None and folder is not None:
            # It must be able to walk to its data, which it can't below a closed home.
            folder = Path(tempfile.mkdtemp(prefix="sfumato-postgres-"))
        super().__init__(folder)
        if self.user is not None:
            shutil.chown(self.folder, self.user)

    @property
    def url(self) -> str:
        return f"postgresql://sfumato:{_PASSWORD}@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        password = self.folder / "password"
        password.write_text(_PASSWORD)
        options = ["--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8"]
        access = ["--username=sfumato", "--auth=scram-sha-256", f"--pwfile={password}"]
        made = self.spawn(
            [self._programs / "initdb", "-D", self.folder / "data", *options, *access]
        )
        if made.wait() != 0:
            raise RuntimeError(f"initdb failed: {self._last_words()}")

    def command(self) -> list[str | Path]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            # A killed process loses nothing by it; only a power cut would.
            "fsync": "off",
        }
        given = [argument for option in options.items() for argument in ("-c", "=".join(option))]
        return [self._programs / "postgres", "-D", self.folder / "data", *given]

    def answers(self) -> bool:
        program = str(self._programs / "pg_isready")
        asked = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0


def postgres_here() -> str | None:
    """URL of a PostgreSQL of this machine in which we may make databases."""
    import psycopg  # noqa: PLC0415 - nothing but the standard library at import

    for url in _candidates():
        try:
            with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
                allowed = connection.execute(
                    "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
        except psycopg.Error:
            continue
        if allowed and allowed[0]:
            return url
    return None


def _candidates() -> Iterator[str]:
    if user := os.environ.get("PGUSER"):
        # Its password, if any, libpq takes from PGPASSWORD itself.
        host, port = os.environ.get("PGHOST", "127.0.0.1"), os.environ.get("PGPORT", "5432")
        name = os.environ.get("PGDATABASE", "postgres")
        if host.startswith("/"):
            yield f"postgresql://{user}@/{name}?host={host}&port={port}"
        else:
            yield f"postgresql://{user}@{host}:{port}/{name}"
    yield from _USUAL


def _programs() -> Path:
    if (found := shutil.which("postgres")) is not None:
        return Path(found).resolve().parent
    # Debian keeps every version apart, and none on the path.
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    if newest is None:
        raise Missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return newest.parent


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for user in ("postgres", "nobody"):
        if user in known:
            return user
    raise Missing("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody'")
