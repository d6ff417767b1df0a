"""One conversation with a server, over one link: greeting, heartbeat, questions.

What is said about commands goes to the session that attends; when the link is lost, it and
every open question are told so.  Knows neither how the link was made nor what a session
does about its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from typing import Any, Protocol, TypeVar, Union, cast

from ..errors import LinkLost, PeerSilent, RequestRefused, VersionMismatch
from ..links.link import Link
from ..protocol.conversation import Conversation, Side
from ..protocol.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    Attached,
    Bye,
    CommandsEnd,
    Detached,
    Entry,
    Exited,
    Hello,
    InputTaken,
    Inquiry,
    ListCommands,
    Locate,
    Located,
    Lost,
    Message,
    Output,
    Ping,
    Queued,
    Refusal,
    Replace,
    ReplaceFailed,
    Report,
    Started,
    StartFailed,
    Stop,
    Stopping,
    Welcome,
)

__all__ = ["AboutCommand", "Attendant", "Talk", "WishGranted"]

T = TypeVar("T")

SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT = 0.05, 60.0  # seconds, whatever a server says
MOST_SEARCHES = 8  # at once; the server answers one after the other, and lets few wait
STOP_SECONDS = 10.0  # for a server to end after the grace of its commands
# Looked at with each beat: silence is noticed within three of them, 15 s as a rule.
MISSED_HEARTBEATS = 2.5

AboutCommand = Union[
    Queued, Started, StartFailed, Attached, Detached, Lost, InputTaken, Output, Exited
]
_ABOUT_COMMAND: tuple[type, ...] = AboutCommand.__args__  # type: ignore[attr-defined]


class Attendant(Protocol):
    """A session, as the talk sees it."""

    def told(self, message: AboutCommand) -> None:
        """Something arrived about a command; raises PeerMisbehaved."""

    def beat(self) -> None:
        """Time for a heartbeat: whatever has waited for one may be said now."""

    def talk_over(self, fault: LinkLost) -> None:
        """Nothing more will arrive."""


class WishGranted(Exception):
    """No fault, though no talk either: the server, of `version`, does what Hello wished."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


class Talk:
    """An open conversation; make it with `Talk.open`."""

    def __init__(self, link: Link, welcome: Welcome, conversation: Conversation) -> None:
        self.link = link
        self.welcome = welcome
        self._conversation = conversation
        self._attendant: Attendant | None = None
        self._inquiries: dict[int, asyncio.Future[Report]] = {}
        self._searches: dict[int, asyncio.Future[Located]] = {}
        self._locating = asyncio.Semaphore(MOST_SEARCHES)
        self._lists: dict[int, tuple[list[Entry], asyncio.Future[list[Entry]]]] = {}
        self._giving_way: asyncio.Future[None] | None = None  # to another version
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self.stopping = ""  # why the server ends, once it has said so
        self.has_successor = False
        self.was_useful = False  # it has brought something about a command
        self.fault: LinkLost | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._heartbeat = min(max(welcome.heartbeat, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT)
        # The first at once: by it the server knows that we have heard its Welcome.
        self._pulse: asyncio.Handle = self._loop.call_soon(self._beat)
        link.deliver(self)

    @classmethod
    async def open(
        cls, link: Link, *, session: str, version: str, timeout: float, wish: str = ""
    ) -> Talk:
        """Greets the server; `timeout` in seconds.

        Raises PeerSilent, VersionMismatch, RequestRefused or LinkLost, and has then closed
        the link.  With `wish` "stop", which servers of all versions understand, it raises
        WishGranted.
        """
        conversation = Conversation(Side.CLIENT)
        hello = Hello(OLDEST_PROTOCOL, PROTOCOL_VERSION, version, session, wish)
        try:
            conversation.sent(hello)
            link.send(hello)
            answer = await asyncio.wait_for(link.receive(), timeout)
            conversation.received(answer)
            if wish and isinstance(answer, Refusal) and answer.reason == "stopping":
                raise WishGranted(answer.version)
            if not isinstance(answer, Welcome):
                raise _refused(answer, version, link.info.peer)
        except asyncio.TimeoutError:
            link.cut(LinkLost("The server did not answer"))
            raise PeerSilent(
                f"No answer to our greeting in {timeout:.1f} s",
                host=link.info.peer,
                step="handshake",
            ) from None
        except BaseException:
            link.cut(LinkLost("The greeting failed"))
            raise
        return cls(link, answer, conversation)

    def attend(self, attendant: Attendant) -> None:
        """What comes about commands, and the end, go to `attendant` from now on."""
        self._attendant = attendant
        if self.fault is not None:
            attendant.talk_over(self.fault)

    def send(self, message: Message) -> None:
        """Raises LinkLost where the talk is over."""
        if self.fault is not None:
            raise LinkLost(self.fault.what, host=self.fault.host, step=self.fault.step)
        self._conversation.sent(message)
        self.link.send(message)

    async def inquire(self, timeout: float) -> Report:
        """Asks the server about itself; raises LinkLost, also where no answer comes in time."""
        number = next(self._numbers)
        waiting = self._inquiries[number] = self._loop.create_future()
        try:
            return await self._ask(Inquiry(number), waiting, timeout)
        finally:
            self._inquiries.pop(number, None)

    async def locate(
        self, programs: tuple[str, ...], file: str, content: bytes, timeout: float
    ) -> Located | None:
        """What the head has of it; None from a server that does not know the question.

        Raises LinkLost as `inquire`.
        """
        if not self.welcome.locates:
            return None
        async with self._locating:
            number = next(self._numbers)
            waiting = self._searches[number] = self._loop.create_future()
            try:
                return await self._ask(Locate(number, programs, file, content), waiting, timeout)
            finally:
                self._searches.pop(number, None)

    async def list_commands(self, timeout: float) -> list[Entry]:
        """All commands that the server knows, oldest first; raises LinkLost as `inquire`."""
        number = next(self._numbers)
        waiting: asyncio.Future[list[Entry]] = self._loop.create_future()
        self._lists[number] = ([], waiting)
        try:
            return await self._ask(ListCommands(number), waiting, timeout)
        finally:
            self._lists.pop(number, None)

    async def replace_server(
        self, python: str, path: str, timeout: float, *, site: str = ""
    ) -> None:
        """Returns when the server gives way to the far half at `path`, and this talk is over.

        `site` is where that one is to import pyzmq from, if its Python has none.  Raises
        RequestRefused where it does not, and goes on; LinkLost as `inquire`.
        """
        if not self.welcome.replaceable:
            version = self.welcome.version
            raise self._not_replaced(f"version {version} cannot hand over its commands")
        waiting = self._giving_way = self._loop.create_future()
        await self._ask(Replace(next(self._numbers), path, python, site), waiting, timeout)
        await asyncio.wait([self.over], timeout=STOP_SECONDS)

    def _not_replaced(self, why: str) -> RequestRefused:
        host = self.welcome.host
        return RequestRefused(f"The server was not replaced: {why}", host=host, step="replace")

    async def stop_server(self, grace: float) -> None:
        """Asks the server to end, and waits until it has; raises LinkLost if it does not."""
        self.send(Stop(grace))
        done, _ = await asyncio.wait([self.over], timeout=grace + STOP_SECONDS)
        if not done:
            raise LinkLost("The server does not end", host=self.welcome.host, step="stop")

    def disown(self) -> None:
        """Tells nobody anything any more: the threads that wait have no time left to act on it."""
        self._attendant = None
        self._inquiries.clear()
        self._searches.clear()
        self._lists.clear()
        self._giving_way = None

    async def close(self) -> None:
        """Says goodbye; whatever still waits is told that the bridge was closed."""
        if self.fault is None:
            with contextlib.suppress(LinkLost):  # it ends just now
                self.send(Bye())
            self._end(LinkLost("The bridge was closed", host=self.link.info.peer))
        await self.link.close()

    # --- for the link (links.Receiver)

    def arrived(self, message: Message) -> None:
        """Hands it to whom it is about; raises PeerMisbehaved."""
        if self.fault is None:
            self._heard = self._loop.time()
            self._conversation.received(message)
            self._handle(message)

    def lost(self, fault: LinkLost) -> None:
        """Everything that waits is told."""
        known = LinkLost(self.stopping, host=self.welcome.host, step="talk")
        self._end(known if self.stopping else fault)

    # --- inside

    async def _ask(self, question: Message, waiting: asyncio.Future[T], timeout: float) -> T:
        try:
            self.send(question)
            return await asyncio.wait_for(waiting, timeout)
        except asyncio.TimeoutError:
            raise LinkLost(f"No answer in {timeout:.1f} s", host=self.link.info.peer) from None

    def _handle(self, message: Message) -> None:
        if isinstance(message, _ABOUT_COMMAND):
            self.was_useful = True
            if self._attendant is not None:
                self._attendant.told(cast(AboutCommand, message))
        elif isinstance(message, Report):
            _settle(self._inquiries.get(message.request), message)
        elif isinstance(message, Located):
            _settle(self._searches.get(message.request), message)
        elif isinstance(message, Entry):
            if message.request in self._lists:
                self._lists[message.request][0].append(message)
        elif isinstance(message, CommandsEnd):
            entries, waiting = self._lists.get(message.request, ([], None))
            _settle(waiting, entries)
        else:
            self._handle_end(message)

    def _handle_end(self, message: Message) -> None:
        if isinstance(message, Stopping):
            # Its last answers may still come; the end of the link is the end of the server.
            self.stopping = f"The server ended: {message.reason}"
            self.has_successor = message.successor
            if message.successor:
                _settle(self._giving_way, None)
        elif isinstance(message, ReplaceFailed):
            waiting = self._giving_way
            if waiting is not None and not waiting.done():
                waiting.set_exception(self._not_replaced(message.text))

    def _beat(self) -> None:
        if self.fault is not None:
            return
        if self._loop.time() - self._heard >= MISSED_HEARTBEATS * self._heartbeat:
            self.link.cut(
                LinkLost("The server's heartbeat stopped", host=self.welcome.host, step="talk")
            )
            return
        try:
            if self._attendant is not None:
                self._attendant.beat()
            self.send(Ping(next(self._numbers)))
        except LinkLost:
            return  # the link tells why, and ends the talk
        self._pulse = self._loop.call_later(self._heartbeat, self._beat)

    def _end(self, fault: LinkLost) -> None:
        if self.fault is not None:
            return
        self.fault = fault
        self._pulse.cancel()
        if self._attendant is not None:
            self._attendant.talk_over(fault)
        questions: list[asyncio.Future[Any]] = [*self._inquiries.values(), *self._searches.values()]
        if self._giving_way is not None:
            questions.append(self._giving_way)
        for waiting in (*questions, *(waiting for _, waiting in self._lists.values())):
            if not waiting.done():
                waiting.set_exception(copy.copy(fault))
        _settle(self.over, None)


def _settle(waiting: asyncio.Future[T] | None, answer: T) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)


def _refused(answer: Message, version: str, peer: str) -> Exception:
    if isinstance(answer, Refusal) and answer.reason == "version":
        return VersionMismatch(
            f"Client {version} and server {answer.version} do not fit: {answer.text}",
            host=peer,
            step="handshake",
        )
    text = answer.text if isinstance(answer, Refusal) else type(answer).__name__
    return RequestRefused(f"The server refused us: {text}", host=peer, step="handshake")
