"""A real service as a child process, to be asked, interrupted and killed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

#: Longest wait for anything that should happen, in seconds. Generous: only a defect reaches it.
PATIENCE = 60.0


class ServiceProcess:
    """``sfumato serve`` on a free port; ``with`` it, and no process of it is left behind.

    Args:
        data: its data folder.
        settings: more settings, without the ``SFUMATO_`` prefix.
        arguments: more arguments of ``sfumato serve``.
    """

    def __init__(
        self,
        data: Path,
        settings: Mapping[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        given = {"device": "fake", **(settings or {})}
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SFUMATO_")},
            **{f"SFUMATO_{key.upper()}": str(value) for key, value in given.items()},
        }
        self._output: queue.Queue[str | None] = queue.Queue()
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sfumato", "serve", "--port=0", f"--data={data}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.url = self.wait_for("listens at").rsplit(" ", 1)[-1]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            for process in family:
                if process.is_running():
                    process.kill()
            self._close()

    def _close(self) -> None:
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line.rstrip())
            self._output.put(line.rstrip())
        self._output.put(None)

    def wait_for(self, words: str) -> str:
        """The next line of output that holds ``words``."""
        while True:
            line = self._output.get(timeout=PATIENCE)
            if line is None:
                raise AssertionError("the service ended:\n" + "\n".join(self.log))
            if words in line:
                return line

    def family(self) -> list[psutil.Process]:
        """The service's process and everything below it."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        return [
            process
            for process in self.family()
            if any("sfumato.bootstrap.work" in part for part in process.cmdline())
        ]

    def kill(self) -> None:
        """kill -9 of the service alone."""
        self.process.kill()
        self._close()
        self.http.close()

    # -- the API ---------------------------------------------------------------------------------

    def submit(self, prompt: str = "a castle at night", **fields: Any) -> dict[str, Any]:
        response = self.http.post("/v1/jobs", json={"prompt": prompt, **fields})
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.http.get(f"/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job

    def events(self, job_id: str, *, until: str | None = None) -> list[str]:
        """Kinds of the job's events: all of them, or up to the first of kind ``until``."""
        kinds = []
        with self.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            for line in response.iter_lines():
                if line.startswith("event:"):
                    kinds.append(line.partition(":")[2].strip())
                    if kinds[-1] == until:
                        break
        return kinds

    def finished(self, job_id: str) -> dict[str, Any]:
        """The job, once it has finished."""
        self.events(job_id)
        return self.job(job_id)
