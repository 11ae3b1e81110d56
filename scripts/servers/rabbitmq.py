"""RabbitMQ: this machine's, or one of our own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from scripts.servers.missing import Missing
from scripts.servers.process import Server, listens

DEBIAN_PACKAGE = "rabbitmq-server"
_USUAL = "amqp://guest:guest@127.0.0.1:5672/"
#: Debian's own command runs it as the user ``rabbitmq`` alone; what lies here runs as anybody.
_DEBIAN_PROGRAMS = "/usr/lib/rabbitmq/bin"


class PrivateRabbit(Server):
    """A RabbitMQ node beside any other: own name, ports, cookie and registry of nodes.

    Raises:
        Missing: RabbitMQ is not installed.
    """

    name = "rabbitmq"
    port_names = ("amqp", "nodes", "registry")

    def __init__(self, folder: Path | None = None) -> None:
        self._programs = _programs()
        super().__init__(folder)
        self._registry: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def environment(self) -> Mapping[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("RABBITMQ_")}
        return {
            **others,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.ports["registry"]),
            "RABBITMQ_NODENAME": f"sfumato-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.ports["nodes"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
        }

    def prepare(self) -> None:
        (self.folder / "rabbitmq-env.conf").touch()
        (self.folder / "enabled_plugins").write_text("[].\n")

    def command(self) -> list[str | Path]:
        # Erlang would start a registry that outlives every node; this one is ours to stop.
        if self._registry is None:
            port = str(self.ports["registry"])
            self._registry = self.spawn(["epmd", "-port", port, "-address", "127.0.0.1"])
        return [self._programs / "rabbitmq-server"]

    def answers(self) -> bool:
        return listens(self.port) and "Starting broker... completed" in self._last_words()

    def start(self) -> PrivateRabbit:
        self.log.unlink(missing_ok=True)
        return super().start()

    def control(self, *arguments: str) -> str:
        """``rabbitmqctl`` on this node; answers what it printed."""
        done = subprocess.run(
            [self._programs / "rabbitmqctl", "--quiet", *arguments],
            env=dict(self.environment()),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    @property
    def pids(self) -> list[int]:
        registry = [] if self._registry is None else [self._registry.pid]
        return [*super().pids, *registry]

    def close(self) -> None:
        super().close()
        if self._registry is not None:
            self._registry.kill()
            self._registry.wait()
            self._registry = None


def rabbitmq_here() -> str | None:
    """URL of this machine's RabbitMQ, if it takes the usual credentials."""
    import aio_pika  # noqa: PLC0415 - nothing but the standard library at import
    from aio_pika.exceptions import AMQPError  # noqa: PLC0415

    async def ask() -> bool:
        try:
            async with await aio_pika.connect(_USUAL, timeout=2):
                return True
        except (AMQPError, OSError):
            return False

    return _USUAL if asyncio.run(ask()) else None


def _programs() -> Path:
    found = shutil.which("rabbitmq-server", path=_DEBIAN_PROGRAMS) or shutil.which(
        "rabbitmq-server"
    )
    if found is None or shutil.which("epmd") is None:
        raise Missing("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    return Path(found).parent
