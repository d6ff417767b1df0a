"""What every link can do, and the mailbox through which arriving messages pass.

`send` never waits: what is under way is bounded by the credit that the protocol grants,
not by the link, so one slow reader cannot hold up the others.  Used by all links; must
not know any of them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from ..errors import LinkLost, PeerMisbehaved
from ..protocol.messages import Message

__all__ = ["Link", "LinkInfo", "Mailbox", "Receiver"]


@dataclass(frozen=True)
class LinkInfo:
    """How a link goes: `kind` "zmq", "stream" or "memory"; `peer` is for people to read."""

    kind: str
    peer: str


class Receiver(Protocol):
    """Who takes the messages of a link, as they arrive and in the loop's thread."""

    def arrived(self, message: Message) -> None:
        """A message came.  Raises PeerMisbehaved where it breaks the rules: cuts the link."""

    def lost(self, fault: LinkLost) -> None:
        """Nothing more will come."""


class Mailbox:
    """Holds what arrives until it is taken, or hands it to a receiver at once.

    The greeting takes one message at a time.  After it every message goes straight to the
    receiver: a task in between would cost two turns of the loop per message.
    """

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._taker: asyncio.Future[None] | None = None
        self._receiver: Receiver | None = None
        self._fault: LinkLost | None = None

    @property
    def fault(self) -> LinkLost | None:
        """Why no more will come; None while more may."""
        return self._fault

    def put(self, message: Message) -> None:
        """A message came; after close it is dropped.  Raises what the receiver raises."""
        if self._fault is not None:
            return
        if self._receiver is not None:
            self._receiver.arrived(message)
        else:
            self._waiting.append(message)
            self._wake()

    def close(self, fault: LinkLost) -> None:
        """Nothing more will come; the first reason given stays."""
        if self._fault is None:
            self._fault = fault
            self._wake()
            if self._receiver is not None:
                self._receiver.lost(fault)

    def deliver(self, receiver: Receiver) -> None:
        """What waits, then all that comes, goes to `receiver`.  Raises what it raises."""
        before = self._fault
        self._receiver = receiver
        try:
            # A link that ended before still owes what came in time; one that the receiver
            # itself ends now owes nothing more.
            while self._waiting and self._fault is before:
                receiver.arrived(self._waiting.popleft())
        finally:
            if before is not None:
                receiver.lost(before)

    async def take(self) -> Message:
        """The next message; raises the fault once all that came before it are taken."""
        while not self._waiting:
            if self._fault is not None:
                raise self._fault
            self._taker = asyncio.get_running_loop().create_future()
            await self._taker
        return self._waiting.popleft()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)


class Link(ABC):
    """One connection to one peer.

    `send` and `close` may be called from the loop's thread only.  After any LinkLost the
    link is over and every later call raises LinkLost as well.
    """

    info: LinkInfo
    mailbox: Mailbox

    @abstractmethod
    def send(self, message: Message) -> None:
        """Hands a message over, in order; raises LinkLost where the link is over."""

    async def receive(self) -> Message:
        """Waits for the next message; raises LinkLost (PeerMisbehaved) when none can come."""
        return await self.mailbox.take()

    def deliver(self, receiver: Receiver) -> None:
        """From now on `receiver` is told of every message, and of the end, as they come."""
        try:
            self.mailbox.deliver(receiver)
        except PeerMisbehaved as fault:
            self.cut(fault)

    @abstractmethod
    async def close(self) -> None:
        """Ends the link, letting what was sent leave first; calling it again does nothing."""

    @abstractmethod
    def cut(self, fault: LinkLost) -> None:
        """Ends the link at once, because of `fault`, which `receive` then raises."""
