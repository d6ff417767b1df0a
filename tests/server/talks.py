"""A client's side of a session, as plain as can be: sends requests, gathers what comes back."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from smartsim_bridge.errors import LinkLost
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    STDOUT,
    Exited,
    Hello,
    Input,
    InputTaken,
    Message,
    Output,
    OutputTaken,
    Report,
    Start,
    Started,
    StartFailed,
)
from smartsim_bridge.server.backlog import Backlog
from smartsim_bridge.server.commands import Command
from smartsim_bridge.server.exits import ExitWatch
from smartsim_bridge.server.journal import Journal
from smartsim_bridge.server.register import Register
from smartsim_bridge.server.sessions import Session
from smartsim_bridge.server.spool import Spool
from smartsim_bridge.server.surroundings import Surroundings
from tests.support.waiting import wait_until_async

__all__ = ["Talk", "Told", "hello", "hurry", "in_session"]

SESSION = "5" * 32
PATH = {"PATH": "/usr/bin:/bin"}


def hello() -> Hello:
    """The first word of a client that nobody has met."""
    return Hello(OLDEST_PROTOCOL, PROTOCOL_VERSION, "0.1", secrets.token_hex(16))


def hurry(command: Command) -> None:
    """The time of whatever it is to do later has come: its limit, the end of a grace.

    A short one of real time may be over before what it is to interrupt has begun.
    """
    due = command._alarms.hand_over()
    command._alarms.clear()
    command._alarms.take_over((0.0, what, detail) for _, what, detail in due)


@dataclass
class Told:
    """What the server told of one command."""

    pid: int = 0
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    taken: int = 0
    broken: bool = False
    failed: StartFailed | None = None
    exits: list[Exited] = field(default_factory=list)
    ended_streams: set[int] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return self.failed is not None or any(one.final for one in self.exits)

    @property
    def end(self) -> Exited:
        return self.exits[-1]


class Talk:
    """Reads the link in the background; tests wait for what they need to see."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.all: list[Message] = []
        self.commands: dict[str, Told] = {}
        self.unread: set[str] = set()  # commands whose output is not acknowledged
        self._news = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    def start(self, command: str, *argv: str, **options: Any) -> None:
        self.commands[command] = Told()
        self.link.send(Start(command, argv, **{"stdin": "null", **options}))

    def feed(self, command: str, data: bytes, offset: int = 0, eof: bool = False) -> None:
        self.link.send(Input(command, offset, eof, data))

    async def run(self, *argv: str, **options: Any) -> Told:
        name = secrets.token_hex(16)
        self.start(name, *argv, **options)
        return await self.over(name)

    async def over(self, command: str) -> Told:
        told = self.commands[command]
        await self.until(lambda: told.is_over)
        return told

    async def until(self, condition: Any) -> None:
        async with self._news:
            await self._news.wait_for(condition)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.link.close()

    def read_on(self, command: str) -> None:
        """Acknowledges what came, and from now on everything."""
        self.unread.discard(command)
        told = self.commands[command]
        self.link.send(OutputTaken(command, STDOUT, len(told.out)))

    @property
    def is_lost(self) -> bool:
        return self._reading.done()

    async def _read(self) -> None:
        try:
            while True:
                message = await self.link.receive()
                async with self._news:
                    self.all.append(message)
                    self._note(message)
                    self._news.notify_all()
        except LinkLost:
            pass
        finally:
            async with self._news:
                self._news.notify_all()

    def _note(self, message: Message) -> None:
        told = self.commands.get(getattr(message, "command", ""), Told())
        if isinstance(message, Output):
            self._take(message, told)
        elif isinstance(message, Started):
            told.pid = message.pid
        elif isinstance(message, StartFailed):
            told.failed = message
        elif isinstance(message, InputTaken):
            told.taken, told.broken = message.offset, message.broken
        elif isinstance(message, Exited):
            told.exits.append(message)

    def _take(self, message: Output, told: Told) -> None:
        came = told.out if message.stream == STDOUT else told.err
        assert message.offset == len(came)
        came += message.payload
        if message.eof:
            told.ended_streams.add(message.stream)
        if message.command not in self.unread:
            self.link.send(OutputTaken(message.command, message.stream, len(came)))


class Hearing:
    """Hands what arrives to a session, as the server does."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def arrived(self, message: Message) -> None:
        self._session.handle(message)

    def lost(self, fault: LinkLost) -> None:
        pass


@asynccontextmanager
async def in_session(
    environment: Mapping[str, str] = PATH,
    directory: str = "/",
    limit: int = 100,
    descriptor_limit: tuple[int, int] | None = None,
) -> AsyncIterator[tuple[Talk, Session, Backlog]]:
    """A client that talks with a session of its own, within this process."""
    near, far = memory_links()
    watch = ExitWatch()
    backlog = Backlog(limit)
    with tempfile.TemporaryDirectory(prefix="ssb-") as state:
        journal, spool = Journal(f"{state}/journal"), Spool(f"{state}/spool")
        surroundings = Surroundings(environment, watch, directory, journal, spool, descriptor_limit)
        session = Session(
            SESSION,
            far,
            Register(surroundings, backlog),
            on_inquiry=lambda asked: Report(asked.request, "0.1", "login1", 1, 0.0, 1, 0),
            on_stop=lambda request: None,
        )
        far.deliver(Hearing(session))
        talk = Talk(near)
        try:
            yield talk, session, backlog
        finally:
            for command in backlog.commands:
                assert isinstance(command, Command)
                command.terminate(0.0)
                command.kill()
            await wait_until_async(lambda: not backlog.running)
            await talk.close()
            watch.close()
            journal.close()
