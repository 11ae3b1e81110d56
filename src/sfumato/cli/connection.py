"""Which service a command talks to: the one that is named, the one that runs on the data folder, or
one of the command's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sfumato.bootstrap.folder import running_service
from sfumato.cli.config import read_config
from sfumato.cli.options import load_settings
from sfumato.cli.progress import Display, Stage
from sfumato.core.errors import DataFolderInUse, Unavailable

if TYPE_CHECKING:
    from sfumato.client import Client
    from sfumato.settings import Settings

#: A service found on the data folder may be another command's own and end with that command.
_SERVICES_TRIED = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """A service, and the key to show there."""

    url: str
    key: str | None = field(default=None, repr=False)

    def client(self) -> Client:
        from sfumato.client import Client  # noqa: PLC0415 - httpx costs help its speed

        return Client(self.url, key=self.key)


@dataclass(frozen=True, slots=True)
class Target:
    """What a command was told of the service to talk to.

    Attributes:
        named: the service that options, environment or the user's file name; None: the one that
            runs on the data folder.
    """

    settings: Settings
    named: Address | None

    @classmethod
    def of(cls, server: str | None, key: str | None, data: Path | None) -> Target:
        """From a command's options. ``--data`` alone goes before a server that is not an option.

        Raises:
            StartupRefused: a setting, or the user's file, is wrong.
        """
        settings = load_settings(data, server=server, key=key)
        if server is None and data is not None:
            return cls(settings, None)
        own = None if settings.key is None else settings.key.get_secret_value()
        url = settings.server
        if url is None or own is None:
            config = read_config()
            url = url or config.server
            if own is None and url is not None and _same(url, config.server):
                own = config.key
        return cls(settings, None if url is None else Address(url, own))

    def running(self) -> Address | None:
        """The service named, or the one that runs on the data folder now; None: there is none."""
        if self.named is not None:
            return self.named
        url = running_service(self.settings)
        return None if url is None else Address(url, self._own_key)

    def private(self, url: str) -> Address:
        """A service of the command's own, which asks for a key only when it is told to."""
        return Address(url, self._own_key if self.settings.key_required else None)

    @property
    def _own_key(self) -> str | None:
        key = self.settings.key
        return None if key is None else key.get_secret_value()


def open_client(server: str | None, key: str | None, data: Path | None) -> Client:
    """A client of the service that the options lead to.

    Raises:
        Unavailable: there is none, with what to do.
    """
    target = Target.of(server, key, data)
    address = target.running()
    if address is None:
        raise Unavailable(
            f"No service runs on the data folder {target.settings.data}. "
            "Start one with `sfumato serve`, or name another with --server."
        )
    return address.client()


def on_service(target: Target, shown: Display, work: Callable[[Address], T]) -> T:
    """What ``work`` does with the service; it is done again when a service that was found on the
    data folder was another command's own and ended with it."""
    for tried in range(1, _SERVICES_TRIED + 1):
        try:
            with _service(target, shown) as address:
                return work(address)
        except Exception as error:
            if target.named is not None or tried == _SERVICES_TRIED or not _lost_folder(error):
                raise
    raise AssertionError  # pragma: no cover - the last try returns or raises


def _lost_folder(error: Exception) -> bool:
    """Whether another command's service came first, or ended under us."""
    from sfumato.client import Unreachable  # noqa: PLC0415

    return isinstance(error, Unreachable | DataFolderInUse)


@contextmanager
def _service(target: Target, shown: Display) -> Iterator[Address]:
    """The service that runs, or one that ends with the block."""
    address = target.running()
    if address is not None:
        yield address
        return
    from sfumato.cli.private_service import PrivateService  # noqa: PLC0415

    with ExitStack() as stack:
        private = stack.enter_context(PrivateService(target.settings))
        shown.show(Stage("starting a service"))
        # Loaded only now, while the service starts.
        from sfumato.client import Unreachable  # noqa: PLC0415

        address = target.private(private.await_url())
        try:
            yield address
        except Unreachable:
            raise Unavailable(
                f"The service of this command ended: {private.last_words()} "
                "What it had accepted is kept on the data folder."
            ) from None


def _same(url: str, other: str | None) -> bool:
    return other is not None and url.rstrip("/") == other.rstrip("/")
