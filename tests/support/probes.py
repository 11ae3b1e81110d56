"""Asks a worker's probes as a kubelet does: a connection for each question."""

from __future__ import annotations

import time

import httpx

from tests.support.service import PATIENCE
from tests.support.worker import WorkerProcess

#: Settings of a worker whose probes are asked.
PROBED = {"internal_port": 0, "internal_host": "127.0.0.1"}


class Probes:
    """The internal port of a worker, once it listens."""

    def __init__(self, worker: WorkerProcess) -> None:
        port = worker.wait_for("are answered at port").rsplit(" ", 1)[-1]
        self.url = f"http://127.0.0.1:{port}"

    def get(self, name: str) -> tuple[int, str]:
        """Status and text of one answer."""
        answer = httpx.get(f"{self.url}/{name}", timeout=PATIENCE)
        return answer.status_code, answer.text.strip()

    def until(self, name: str, status: int) -> str:
        """The text of the first answer with that status; what came before is in the failure."""
        deadline, seen = time.monotonic() + PATIENCE, set[tuple[int, str]]()
        while time.monotonic() < deadline:
            answer = self.get(name)
            if answer[0] == status:
                return answer[1]
            seen.add(answer)
            time.sleep(0.1)
        raise AssertionError(f"{name} was never {status}: {seen}")
