"""What every link can do, and the mailbox in which arriving messages wait.

`send` never waits: what is under way is bounded by the credit that the protocol grants,
not by the link, so one slow reader cannot hold up the others.  Used by all links; must
not know any of them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

from ..errors import LinkLost
from ..protocol.messages import Message

__all__ = ["Link", "LinkInfo", "Mailbox"]


@dataclass(frozen=True)
class LinkInfo:
    """How a link goes: `kind` "zmq", "stream" or "memory"; `peer` is for people to read."""

    kind: str
    peer: str


class Mailbox:
    """Messages that came and were not taken yet, for one taker; closing it wakes the taker."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._taker: asyncio.Future[None] | None = None
        self._fault: LinkLost | None = None

    @property
    def fault(self) -> LinkLost | None:
        """Why no more will come; None while more may."""
        return self._fault

    def put(self, message: Message) -> None:
        """A message came; after close it is dropped."""
        if self._fault is None:
            self._waiting.append(message)
            self._wake()

    def close(self, fault: LinkLost) -> None:
        """Nothing more will come; the first reason given stays."""
        if self._fault is None:
            self._fault = fault
            self._wake()

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

    @abstractmethod
    def send(self, message: Message) -> None:
        """Hands a message over, in order; raises LinkLost where the link is over."""

    @abstractmethod
    async def receive(self) -> Message:
        """Waits for the next message; raises LinkLost (PeerMisbehaved) when none can come."""

    @abstractmethod
    async def close(self) -> None:
        """Ends the link, letting what was sent leave first; calling it again does nothing."""

    @abstractmethod
    def cut(self, fault: LinkLost) -> None:
        """Ends the link at once, because of `fault`, which `receive` then raises."""
