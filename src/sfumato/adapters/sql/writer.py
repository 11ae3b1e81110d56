"""The one thread that writes: many callers' operations in one transaction, one wait for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sfumato.adapters.sql.dialects import Dialect
from sfumato.core.errors import SfumatoError, Unavailable

_Result = TypeVar("_Result")

#: Operations that share a transaction at most, so that none waits long for the others.
_LARGEST_GROUP = 256
#: Seconds before each new try of what lost against another process's transaction, or lost its
#: connection: together about as long as a server takes to start again.
PAUSES = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)


@dataclass(slots=True)
class _Operation:
    function: Callable[[Connection], Any]
    durable: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class GroupWriter:
    """Commits in groups: whatever waits when a transaction begins goes into it.

    An operation is a function of a connection. It raises an error of ours only before it has
    written anything; when anything else goes wrong the group is rolled back and its operations
    are tried again one by one, so that none fails for its neighbours' sake.

    Args:
        committed: called in the writer's thread after each commit.
    """

    def __init__(self, engine: Engine, dialect: Dialect, *, committed: Callable[[], None]) -> None:
        self._engine = engine
        self._dialect = dialect
        self._committed = committed
        self._inbox: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="sql-writer", daemon=True)
        self._thread.start()

    async def run(
        self, function: Callable[[Connection], _Result], *, durable: bool = True
    ) -> _Result:
        """The function's result, once it is committed; on the disk if ``durable``.

        Raises ``StoreBusy``, ``StorageFull``, ``Unavailable``, or what the function raised.
        """
        if self._closed:
            raise Unavailable("The database has been closed. Nothing was changed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._inbox.put(_Operation(function, durable, loop, future))
        return await future

    async def close(self, executor: Executor) -> None:
        """Commit what waits, then end the thread; the executor's thread waits for that."""
        self._closed = True
        self._inbox.put(None)
        await asyncio.get_running_loop().run_in_executor(executor, self._thread.join)

    def _main(self) -> None:
        stopping = False
        while not stopping:
            group = [self._inbox.get()]
            while len(group) < _LARGEST_GROUP:
                try:
                    group.append(self._inbox.get_nowait())
                except queue.Empty:
                    break
            operations = [operation for operation in group if operation is not None]
            stopping = len(operations) < len(group)
            if operations:
                self._write(operations)
                self._answer(operations)

    def _write(self, group: Sequence[_Operation]) -> None:
        try:
            self._transact_patiently(group)
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            if len(group) > 1 and not self._concerns_all(error):
                for operation in _afresh(group):
                    self._write([operation])
            else:
                ours = self._dialect.translate(error) if isinstance(error, DBAPIError) else error
                for operation in group:
                    operation.error = ours
        else:
            self._committed()

    def _transact_patiently(self, group: Sequence[_Operation]) -> None:
        for pause in PAUSES:
            try:
                self._transact(group)
            except DBAPIError as error:
                if not self._dialect.may_pass(error):
                    raise
                time.sleep(pause)
                _afresh(group)
            else:
                return
        self._transact(group)

    def _transact(self, group: Sequence[_Operation]) -> None:
        with self._engine.connect() as connection:
            durable = any(operation.durable for operation in group)
            with self._dialect.transaction(connection, durable=durable):
                for operation in group:
                    try:
                        operation.result = operation.function(connection)
                    except SfumatoError as error:
                        operation.error = error

    def _concerns_all(self, error: BaseException) -> bool:
        """An operation's own errors of ours were caught: one that comes here is the commit's."""
        if isinstance(error, DBAPIError):
            return self._dialect.concerns_all(error)
        return isinstance(error, SfumatoError)

    @staticmethod
    def _answer(operations: Sequence[_Operation]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Operation]] = {}
        for operation in operations:
            by_loop.setdefault(operation.loop, []).append(operation)
        for loop, theirs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, theirs)


def _afresh(group: Sequence[_Operation]) -> Sequence[_Operation]:
    for operation in group:
        operation.error = None
    return group


def _resolve(operations: Sequence[_Operation]) -> None:
    for operation in operations:
        if operation.future.done():  # its caller was cancelled; the write stands all the same
            continue
        if operation.error is not None:
            operation.future.set_exception(operation.error)
        else:
            operation.future.set_result(operation.result)
