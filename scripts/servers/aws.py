"""SNS and SQS: moto's server, from the test extra."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.servers.missing import Missing
from scripts.servers.process import Server, http_status


class PrivateAws(Server):
    """moto in a process of its own. It keeps everything in memory: a restart forgets.

    Raises:
        Missing: the test extra is not installed.
    """

    name = "aws"

    def __init__(self, folder: Path | None = None) -> None:
        if importlib.util.find_spec("moto") is None:
            raise Missing("moto is not installed (pip install 'sfumato[test]')")
        super().__init__(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONWARNINGS": "ignore"}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        return http_status(f"{self.url}/moto-api/") == 200
