"""A server that says what it was told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Answers:
    """A server on this machine that answers each request with the next of some texts."""

    def __init__(self, *texts: bytes) -> None:
        self._texts = list(texts)
        self.heads: list[str] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        held = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            text = self._texts.pop(0)
            writer.write(text)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
                if text.endswith(b"..."):  # and nothing more, for as long as the test runs
                    await held.wait()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            held.set()
            server.close()
