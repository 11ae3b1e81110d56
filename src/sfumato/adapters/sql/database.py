"""One process's access to the database: the writer, the readers, the wake-ups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sfumato.adapters.sql.dialects import Dialect, dialect_for, reason_of
from sfumato.adapters.sql.migrate import migrate
from sfumato.adapters.sql.writer import PAUSES, GroupWriter
from sfumato.core.errors import StartupRefused

_Result = TypeVar("_Result")

_READERS = 4


class Database:
    """Open it with :meth:`open`; close it once, when every call has been answered."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.insert = dialect.insert
        self._writing = dialect.engine(writer=True)
        self._reading = dialect.engine(writer=False)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sql-reader")
        self.signals = dialect.signals(self)
        self._writer = GroupWriter(self._writing, dialect, committed=self.signals.committed)

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect, and bring the schema up to date.

        Args:
            url: ``sqlite:///path/to/file.db`` or ``postgresql://…``.

        Raises:
            SchemaTooNew: a later version of Sfumato has written this database.
            StartupRefused: the URL is wrong, or there is no database to be had at it.
        """
        dialect = dialect_for(url)
        cls._migrate(dialect)
        return cls(dialect)

    @classmethod
    def check(cls, url: str) -> None:
        """As :meth:`open`, without staying connected."""
        cls._migrate(dialect_for(url))

    @staticmethod
    def _migrate(dialect: Dialect) -> None:
        engine = dialect.engine(writer=True)
        try:
            migrate(engine, dialect)
        except DBAPIError as error:
            raise StartupRefused(
                f"The database {dialect.url.render_as_string(hide_password=True)} can't be used: "
                f"{reason_of(error)}. Set SFUMATO_DATABASE_URL or SFUMATO_DATA to one that can.",
                field="database_url",
            ) from None
        finally:
            engine.dispose()

    async def write(
        self, function: Callable[[Connection], _Result], *, durable: bool = True
    ) -> _Result:
        """Run a function in a transaction; it is committed when this returns.

        Raises ``StoreBusy``, ``StorageFull``, ``Unavailable``, or what the function raised.
        """
        return await self._writer.run(function, durable=durable)

    async def read(self, function: Callable[[Connection], _Result]) -> _Result:
        """Run a function that only reads; no writer holds it up.

        Raises ``Unavailable``, or what the function raised.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, function)

    def _read(self, function: Callable[[Connection], _Result]) -> _Result:
        for pause in (*PAUSES, None):
            try:
                with self._reading.connect() as connection:
                    return function(connection)
            except DBAPIError as error:
                if pause is None or not self._dialect.may_pass(error):
                    raise self._dialect.translate(error) from error
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        await self._writer.close(self._readers)
        await self.signals.close()
        self._readers.shutdown(wait=True)
        self._writing.dispose()
        self._reading.dispose()
