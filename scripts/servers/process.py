"""A server as a process of ours: on free ports, with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

#: Longest wait for a server, in seconds. Generous: only a defect reaches it.
PATIENCE = 60.0


class Server:
    """Start, stop, kill and restart one server; ports and data last until :meth:`close`.

    A subclass gives ``name``, :attr:`url`, :meth:`command` and :meth:`answers`, and makes its
    folder's contents in :meth:`prepare`.

    Args:
        folder: where its data goes; None: a temporary folder, removed by ``close``.
    """

    name: str
    #: Named ports, taken anew for each instance.
    port_names: tuple[str, ...] = ("main",)
    #: Who runs it; None: we.
    user: str | None = None
    #: What asks it to stop at once and in order.
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"sfumato-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = free_ports(self.port_names)
        self.process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    @property
    def port(self) -> int:
        return self.ports[self.port_names[0]]

    @property
    def url(self) -> str:
        """Where clients find it, the same after every restart."""
        raise NotImplementedError

    @property
    def pids(self) -> list[int]:
        """The processes to end, the server's own first."""
        return [] if self.process is None else [self.process.pid]

    @property
    def litter(self) -> list[Path]:
        """What it leaves outside its folder, to be removed when it has ended."""
        return []

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def prepare(self) -> None:
        """Make what the first start needs."""

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def answers(self) -> bool:
        """Whether it serves. May raise ``OSError`` for no."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start it and wait until it answers."""
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self.process = self.spawn(self.command())
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise
        return self

    def spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """A process in a session of its own, so that a Ctrl-C here doesn't reach it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=dict(self.environment()),
                start_new_session=True,
                user=self.user,
                group=self.user and _group_of(self.user),
                extra_groups=[] if self.user else None,
            )

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while not _quietly(self.answers):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended while starting: {self._last_words()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer: {self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask it to end, and wait; what does not end is killed."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE / 4)
        self.kill()

    def kill(self) -> None:
        """End it and its children as a power cut would."""
        if self.process is not None:
            kill_family(self.process.pid)
            self.process.wait(PATIENCE)
            self.process = None
        for path in self.litter:
            path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it; a temporary folder goes too."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


#: Below the ports that Linux and others give to outgoing connections: one of those could take a
#: server's port while it restarts. Above what servers have as their usual ports.
_PORTS = range(20_000, 32_000)


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free port for each name, none twice."""
    found: list[int] = []
    while len(found) < len(names):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return dict(zip(names, found, strict=True))


def kill_family(pid: int) -> None:
    """Kill a process and all below it; PostgreSQL's children lead groups of their own."""
    import psutil  # noqa: PLC0415 - nothing but the standard library at import

    try:
        head = psutil.Process(pid)
        family = [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    # The head is our child, perhaps: its status is for whoever started it.
    psutil.wait_procs(family[1:], timeout=PATIENCE)


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def http_status(url: str) -> int:
    try:
        with _DIRECT.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


#: A proxy of the environment would not reach this machine's ports.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _quietly(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except OSError:
        return False


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - POSIX alone has it

    return pwd.getpwnam(user).pw_gid
