"""The socket that the service listens at."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from sfumato.core.errors import PortTaken

_ADVICE = "Give another with --port; --port 0 takes a free one."


@contextlib.contextmanager
def listen(
    host: str, port: int, *, field: str = "port", advice: str = _ADVICE
) -> Iterator[socket.socket]:
    """A listening socket at the host's first address; ``port`` 0 takes a free one.

    Args:
        field: the setting that ``port`` is of.
        advice: what to do when it is taken.

    Raises:
        PortTaken: with what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named because asyncio switches Nagle's algorithm off only where it is:
        # with it on, each answer would wait 40 ms for the caller's delayed acknowledgement.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise PortTaken(
            f"Can't listen at {host}:{port}: {error.strerror}. {advice}", field=field
        ) from None
    with listener:
        yield listener
