"""Servers that answer from a thread of the test's process."""

from __future__ import annotations

import threading
from socketserver import BaseServer
from typing import Self


class Answering:
    """``with`` it: the server answers for as long as the block runs, and is closed then."""

    def __init__(self, server: BaseServer) -> None:
        self._server = server

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
