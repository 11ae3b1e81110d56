"""The socket that the service listens at."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sfumato.bootstrap.listening import listen
from sfumato.core.errors import PortTaken


async def test_answers_do_not_wait_for_the_callers_acknowledgement() -> None:
    delayed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        delayed.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen("127.0.0.1", 0) as listener:
        server = await asyncio.start_server(note, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await delayed == 1
            writer.close()
            await writer.wait_closed()


def test_a_taken_port_is_named() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(PortTaken, match=f"127.0.0.1:{port}") as caught,
            listen("127.0.0.1", port),
        ):
            pass
    assert caught.value.field == "port"


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortTaken, match="no-such-host"), listen("no-such-host.invalid", 1):
        pass
