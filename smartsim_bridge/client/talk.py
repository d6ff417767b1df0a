"""One conversation with a server, over any link: who waits for which answer.

Greets, keeps the heartbeat, and hands what arrives to the command that it is about.  When
the link is lost everything that waits is told so.  Knows neither how the link was made nor
what is done with the answers.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from typing import Protocol

from ..errors import LinkLost, PeerSilent, RequestRefused, VersionMismatch
from ..links.link import Link
from ..protocol.conversation import Conversation, Side
from ..protocol.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    Bye,
    Exited,
    Hello,
    InputTaken,
    Inquiry,
    Message,
    Output,
    Ping,
    Refusal,
    Report,
    Started,
    StartFailed,
    Stop,
    Stopping,
    Welcome,
)

__all__ = ["Listener", "Talk"]

SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT = 0.05, 60.0  # seconds, whatever a server says
STOP_SECONDS = 10.0  # for a server to end after the grace of its commands
MISSED_HEARTBEATS = 3  # then the link is lost: 15 s with the usual heartbeat

AboutCommand = (Started, StartFailed, InputTaken, Output, Exited)


class Listener(Protocol):
    """A command, as the talk sees it."""

    def handle(self, message: Message) -> None:
        """Something arrived that is about it; raises PeerMisbehaved."""

    def lost(self, fault: LinkLost) -> None:
        """Nothing more will arrive."""


class Talk:
    """An open conversation; make it with `Talk.open`."""

    def __init__(self, link: Link, welcome: Welcome, conversation: Conversation) -> None:
        self.link = link
        self.welcome = welcome
        self._conversation = conversation
        self._commands: dict[str, Listener] = {}
        self._inquiries: dict[int, asyncio.Future[Report]] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._stopping = ""  # why the server ends, once it has said so
        self.fault: LinkLost | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._heartbeat = min(max(welcome.heartbeat, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT)
        self._pulse = self._loop.call_later(self._heartbeat, self._beat)
        link.deliver(self)

    @classmethod
    async def open(cls, link: Link, *, session: str, version: str, timeout: float) -> Talk:
        """Greets the server; `timeout` in seconds.

        Raises PeerSilent, VersionMismatch, RequestRefused or LinkLost, and has then closed
        the link.
        """
        conversation = Conversation(Side.CLIENT)
        hello = Hello(OLDEST_PROTOCOL, PROTOCOL_VERSION, version, session)
        try:
            conversation.sent(hello)
            link.send(hello)
            answer = await asyncio.wait_for(link.receive(), timeout)
            conversation.received(answer)
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

    def register(self, command: str, listener: Listener) -> None:
        """Messages about `command` go to `listener` from now on."""
        self._commands[command] = listener

    def forget(self, command: str) -> None:
        """Nothing more is expected about `command`."""
        self._commands.pop(command, None)

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
            self.send(Inquiry(number))
            return await asyncio.wait_for(waiting, timeout)
        except asyncio.TimeoutError:
            raise LinkLost(f"No answer in {timeout:.1f} s", host=self.link.info.peer) from None
        finally:
            self._inquiries.pop(number, None)

    async def stop_server(self, grace: float) -> None:
        """Asks the server to end, and waits until it has; raises LinkLost if it does not."""
        self.send(Stop(grace))
        done, _ = await asyncio.wait([self.over], timeout=grace + STOP_SECONDS)
        if not done:
            raise LinkLost("The server does not end", host=self.welcome.host, step="stop")

    def disown(self) -> None:
        """Tells nobody anything any more: the threads that wait have no time left to act on it."""
        self._commands.clear()
        self._inquiries.clear()

    async def close(self) -> None:
        """Says goodbye; whatever still waits is told that the bridge was closed."""
        if self.fault is None:
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
        known = LinkLost(self._stopping, host=self.welcome.host, step="talk")
        self._end(known if self._stopping else fault)

    # --- inside

    def _handle(self, message: Message) -> None:
        if isinstance(message, AboutCommand):
            listener = self._commands.get(message.command)
            if listener is not None:
                listener.handle(message)
        elif isinstance(message, Report):
            waiting = self._inquiries.get(message.request)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Stopping):
            # Its last answers may still come; the end of the link is the end of the server.
            self._stopping = f"The server ended: {message.reason}"

    def _beat(self) -> None:
        if self.fault is not None:
            return
        if self._loop.time() - self._heard > MISSED_HEARTBEATS * self._heartbeat:
            self.link.cut(
                LinkLost("The server's heartbeat stopped", host=self.welcome.host, step="talk")
            )
            return
        try:
            self.send(Ping(next(self._numbers)))
        except LinkLost:
            return  # the link tells why, and ends the talk
        self._pulse = self._loop.call_later(self._heartbeat, self._beat)

    def _end(self, fault: LinkLost) -> None:
        if self.fault is not None:
            return
        self.fault = fault
        self._pulse.cancel()
        for listener in list(self._commands.values()):
            listener.lost(copy.copy(fault))  # each raises its own, with a traceback of its own
        for waiting in self._inquiries.values():
            if not waiting.done():
                waiting.set_exception(fault)
        if not self.over.done():
            self.over.set_result(None)


def _refused(answer: Message, version: str, peer: str) -> Exception:
    if isinstance(answer, Refusal) and answer.reason == "version":
        return VersionMismatch(
            f"Client {version} and server {answer.version} do not fit: {answer.text}",
            host=peer,
            step="handshake",
        )
    text = answer.text if isinstance(answer, Refusal) else type(answer).__name__
    return RequestRefused(f"The server refused us: {text}", host=peer, step="handshake")
