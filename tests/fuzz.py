"""Requests that nobody would write, against a real service: ``python -m tests.fuzz`` (``make fuzz``).

Schemathesis makes them of the service's own OpenAPI document. None may be answered by a 5xx, and
every answer must be one that the document describes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.service import ServiceProcess

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
#: Of one request, in seconds; the longest wait that a caller may ask for is no failure.
_PATIENCE = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    given = parser.parse_args()
    sys.exit(run([f"--max-time={given.seconds}", "--max-examples=1000", "--continue-on-failure"]))


def run(options: Sequence[str]) -> int:
    """The exit status of schemathesis with these options, against a service of its own."""
    program = Path(sysconfig.get_path("scripts")) / "schemathesis"
    with (
        tempfile.TemporaryDirectory(prefix="sfumato-fuzz-") as folder,
        ServiceProcess(Path(folder) / "data", {"log_level": "WARNING"}) as service,
    ):
        command = [
            str(program),
            "run",
            f"{service.url}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            f"--request-timeout={_PATIENCE}",
            "--no-color",
            *options,
        ]
        # In a folder of its own: it would leave what it found in ours.
        status = subprocess.run(command, cwd=folder, check=False).returncode
        alive = service.process.poll() is None
        defects = [line for line in service.log if " failed with " in line]
        sys.stdout.writelines(f"{line}\n" for line in defects)
        return status or int(not alive) or int(bool(defects))


if __name__ == "__main__":
    main()
