"""A link within one process: two ends, no bytes, no waiting.

For tests of anything that takes a link, ours and yours.  Messages pass through the codec
all the same, so what could not travel on a real link does not travel here.
"""

from __future__ import annotations

from ..errors import LinkLost, PeerMisbehaved
from ..protocol import codec
from ..protocol.messages import Message
from .link import Link, LinkInfo, Mailbox

__all__ = ["MemoryLink", "memory_links"]


class MemoryLink(Link):
    """One end; make two with `memory_links()`."""

    def __init__(self, name: str) -> None:
        self.info = LinkInfo("memory", name)
        self.mailbox = Mailbox()
        self.other: MemoryLink | None = None

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        if self.other is not None:
            try:
                self.other.mailbox.put(codec.decode(codec.encode(message)))
            except PeerMisbehaved as fault:
                self.other.cut(fault)

    async def close(self) -> None:
        self.cut(LinkLost("The link was closed"))

    def cut(self, fault: LinkLost) -> None:
        self.mailbox.close(fault)
        if self.other is not None:
            self.other.mailbox.close(LinkLost("The peer closed the link"))


def memory_links() -> tuple[MemoryLink, MemoryLink]:
    """Two ends, each the other's peer."""
    left, right = MemoryLink("left"), MemoryLink("right")
    left.other, right.other = right, left
    return left, right
