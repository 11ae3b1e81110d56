"""A service for one command: a child process that ends with it, however it ends.

The child runs ``sfumato serve --exit-with-stdin`` and we hold the other end of its standard input:
when this process stops, crashes or is killed with -9, the kernel closes that end and the child
stops by itself, its workers with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sfumato.bootstrap.folder import running_service
from sfumato.core.errors import DataFolderInUse, StartupRefused

if TYPE_CHECKING:
    from sfumato.settings import Settings

_LISTENING = re.compile(r"listens at (http\S+)")
_LAST_WORDS = re.compile(r"Error: (?P<message>.*) \((?P<code>\w+)\)")
#: Seconds beyond the workers' own grace after which a child that does not stop is killed.
_PATIENCE = 15.0
#: Seconds for another service that holds the data folder to listen.
_OTHERS_PATIENCE = 10.0


class PrivateService:
    """``with PrivateService(settings) as service:`` talk to ``service.await_url()``.

    It starts at once; what else there is to load can be loaded meanwhile.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # The worker starts with the service, not after the first job arrived.
        warm = settings.model_copy(update={"warm": True})
        self._process = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "sfumato", "serve", "--exit-with-stdin"),
                *("--host=127.0.0.1", "--port=0", f"--data={settings.data}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=warm.for_child(),
            # A Ctrl-C in the terminal is for us: we cancel the job before we stop the child.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def await_url(self) -> str:
        """Where it listens, once it does.

        Raises:
            StartupRefused: it did not start, in its own words.
            DataFolderInUse: another service took the data folder first.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        for line in self._process.stdout:
            if found := _LISTENING.search(line):
                return found[1]
        last = self.last_words()
        found = _LAST_WORDS.search(last)
        if found is None:
            raise StartupRefused(f"The service did not start: {last}")
        if found["code"] == DataFolderInUse.code:
            self._await_other()
            raise DataFolderInUse(found["message"])
        raise StartupRefused(found["message"])

    def last_words(self) -> str:
        """What the service logged last, once it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        self._log.seek(0)
        lines = self._log.read().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def _await_other(self) -> None:
        """Wait until whoever took the data folder answers there, or a while without it."""
        end = time.monotonic() + _OTHERS_PATIENCE
        while running_service(self._settings) is None and time.monotonic() < end:
            time.sleep(0.1)

    def _stop(self) -> None:
        """Ask by ending its input; kill it if it does not listen, or if we are interrupted again
        while it stops. Its workers hang on it as it hangs on us."""
        try:
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()
            self._process.wait(self._settings.grace + _PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._log.close()
