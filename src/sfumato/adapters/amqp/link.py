"""The connection to RabbitMQ: made anew whenever it is needed and gone.

aio-pika's own robust connection restores channels with their consumers, but not what they had
delivered: a message of the lost connection would look alive and be acknowledged into nowhere. So
a plain connection is used. All that was opened on it, channels and deliveries, belongs to one
:class:`Session` and ends with it; the next call opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ConnectionClosed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from sfumato.core.errors import StartupRefused, Unavailable

log = logging.getLogger(__name__)

#: Seconds in which the broker must answer; a connection that does not is given up.
ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
#: The broker ends a connection that was silent for twice this: an event loop that others block
#: for half a minute keeps it.
_HEARTBEAT_SECONDS = 30
#: Seconds between two tries to connect: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: Channels that are kept open for the next delivery.
_IDLE_CHANNELS = 32
_VERSION_PARTS = 2

_Result = TypeVar("_Result")


@contextlib.contextmanager
def answers(aim: str) -> Iterator[None]:
    """Turn whatever the library raises when the broker fails into ``Unavailable``."""
    try:
        yield
    except asyncio.CancelledError:
        # A connection that closes cancels those who wait on it, though nobody asked them to stop.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unavailable(
            f"RabbitMQ's connection was lost: cannot {aim}. It is made again by itself."
        ) from None
    except (AMQPError, ChannelInvalidStateError, OSError) as error:
        raise Unavailable(
            f"RabbitMQ does not answer as it should ({type(error).__name__}): cannot {aim}. "
            "It is tried again; jobs are kept in the job store."
        ) from error


@dataclass(eq=False)
class Session:
    """One connection, and what was opened on it."""

    connection: AbstractConnection
    version: tuple[int, ...]
    idle: list[AbstractChannel] = field(default_factory=list)
    publisher: AbstractChannel | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    lost: bool = False

    async def take_channel(self) -> AbstractChannel:
        """A channel with nothing on it, for one delivery at a time."""
        while self.idle:
            channel = self.idle.pop()
            if not channel.is_closed:
                return channel
        channel = await self._open_channel(confirms=False)
        await channel.set_qos(prefetch_count=1, timeout=ANSWER_SECONDS)
        return channel

    async def give_back(self, channel: AbstractChannel) -> None:
        """``channel`` has no consumer and nothing unacknowledged."""
        if channel.is_closed or self.lost:
            return
        if len(self.idle) < _IDLE_CHANNELS:
            self.idle.append(channel)
        else:
            await channel.close()

    async def publishing_channel(self) -> AbstractChannel:
        async with self.opening:
            if self.publisher is None or self.publisher.is_closed:
                self.publisher = await self._open_channel()
            return self.publisher

    @contextlib.asynccontextmanager
    async def private_channel(self, *, confirms: bool = True) -> AsyncIterator[AbstractChannel]:
        """A channel of the block's own: an error of the broker closes no other."""
        channel = await self._open_channel(confirms=confirms)
        try:
            yield channel
        finally:
            with contextlib.suppress(AMQPError, ChannelInvalidStateError, OSError):
                await channel.close()

    async def _open_channel(self, *, confirms: bool = True) -> AbstractChannel:
        channel = self.connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        async with asyncio.timeout(ANSWER_SECONDS):
            await channel.initialize()
        return channel


class Link:
    """Hands out the current session; connects again when there is none."""

    def __init__(self, url: str, *, setting: str) -> None:
        self._url = url
        self._setting = setting
        self._session: Session | None = None
        self._connecting = asyncio.Lock()
        self._pause = 0.0
        self._next_try = 0.0
        self._refusal = ""
        self._closed = False
        self._closing: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, url: str, *, setting: str) -> Link:
        """Raises ``StartupRefused``, naming the setting, when the broker can't be used."""
        link = cls(url, setting=setting)
        link._session = await link._connect()
        return link

    async def session(self, *, patience: float, stop: asyncio.Event | None = None) -> Session:
        """The current session, or a new one within ``patience`` seconds or until ``stop`` is set.

        Raises ``Unavailable``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            async with self._connecting:
                if self._closed:
                    raise Unavailable("The connection to RabbitMQ was closed by us.")
                if self._session is not None and not self._session.lost:
                    return self._session
                if loop.time() >= self._next_try:
                    await self._try_to_connect()
                    continue
            if loop.time() >= deadline or (stop is not None and stop.is_set()):
                raise Unavailable(f"{self._refusal} It is tried again; jobs are kept.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, self._next_try)):
                    await (stop or asyncio.Event()).wait()

    async def _try_to_connect(self) -> None:
        try:
            self._session = await self._connect()
        except StartupRefused as error:
            self._refusal = error.message
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
            self._next_try = asyncio.get_running_loop().time() + self._pause
        else:
            self._pause = 0.0
            log.info("connected to RabbitMQ again")

    async def run(
        self,
        aim: str,
        act: Callable[[Session], Awaitable[_Result]],
        *,
        patience: float,
        stop: asyncio.Event | None = None,
        missing: Callable[[], None] = lambda: None,
    ) -> _Result:
        """Do it on a standing connection, again on the next one if that breaks, for ``patience``
        seconds or until ``stop`` is set.

        Args:
            missing: called when a queue or exchange is not there any more.

        Raises ``Unavailable``.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + patience, _FIRST_PAUSE
        while True:
            session = await self.session(patience=deadline - loop.time(), stop=stop)
            try:
                with answers(aim):
                    return await act(session)
            except Unavailable as error:
                match error.__cause__:
                    case TimeoutError():
                        await self.give_up_unless_it_answers(session)
                    case ChannelNotFoundEntity() | DeliveryError():
                        missing()
                if loop.time() + pause >= deadline or (stop is not None and stop.is_set()):
                    raise
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def give_up_unless_it_answers(self, session: Session) -> None:
        """After a call without an answer: a queue without a leader must not cost the connection
        with all that it holds, but a connection that is silent altogether is made anew."""
        try:
            with answers("look whether it is there"):
                async with session.private_channel():
                    return
        except Unavailable:
            if session.lost:
                return
        log.warning("RabbitMQ does not answer; connecting again")
        session.lost = True
        self._closing.add(task := asyncio.create_task(_close(session.connection)))
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            self._session.lost = True
            await _close(self._session.connection)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _connect(self) -> Session:
        try:
            connection = await aio_pika.connect(
                _with_heartbeat(self._url),
                timeout=_CONNECT_SECONDS,
                client_properties={"connection_name": "sfumato"},
            )
        except (AuthenticationError, ProbableAuthenticationError):
            raise self._refused(
                "refuses the user or the password",
                "a user that may use the virtual host; RabbitMQ's own guest works from its "
                "own machine alone",
            ) from None
        except (InvalidFrameError, ConnectionClosed):
            # It closes the connection in place of opening the virtual host.
            raise self._refused(
                f"has no virtual host {_virtual_host(self._url)!r}, or closes it to this user",
                "a URL that ends in an existing virtual host, as amqp://…/name",
            ) from None
        except (AMQPError, OSError, ValueError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else _reason(error)
            raise self._refused(f"can't be reached ({reason})", "the URL of a broker") from None
        session = Session(connection, _version(connection))
        connection.close_callbacks.add(lambda *_: self._forget(session))
        return session

    def _forget(self, session: Session) -> None:
        if not session.lost:
            log.warning("the connection to RabbitMQ was lost; it is made again when needed")
        session.lost = True

    def _refused(self, what: str, accepted: str) -> StartupRefused:
        parts = urlsplit(self._url)
        place = parts.netloc.rpartition("@")[2]
        return StartupRefused(
            f"RabbitMQ at {place} {what} (SFUMATO_{self._setting.upper()}).",
            field=self._setting,
            accepted=accepted,
        )


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(AMQPError, ChannelInvalidStateError, OSError):
        async with asyncio.timeout(_CONNECT_SECONDS):
            await connection.close()


def _with_heartbeat(url: str) -> str:
    """The URL with our heartbeat, unless it names one."""
    parts = urlsplit(url)
    if "heartbeat=" in parts.query:
        return url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}heartbeat={_HEARTBEAT_SECONDS}"))


def _version(connection: AbstractConnection) -> tuple[int, ...]:
    """Major and minor number of the server; (0,) when it tells none."""
    transport = connection.transport
    properties = transport.connection.server_properties if transport is not None else {}
    text = str(dict(properties or {}).get("version", "0"))
    return tuple(int(part) for part in text.split(".")[:_VERSION_PARTS] if part.isdigit()) or (0,)


def _virtual_host(url: str) -> str:
    return urlsplit(url).path.removeprefix("/") or "/"


def _reason(error: Exception) -> str:
    """The operating system's words for it, without addresses."""
    match error.args:
        case (int(number), str(words), *_):
            return os.strerror(number) if number > 0 else words
        case _:
            return type(error).__name__
