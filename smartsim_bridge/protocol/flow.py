"""Numbered bytes: what may be sent, what was received, what must be kept until it was.

The rules, for each stream of each command (stdout, stderr, stdin) on its own:

1. Every byte has an offset; a message names the offset of its first byte.
2. The receiver acknowledges an offset: it holds, and has handed on, all bytes below.
3. An acknowledgement is also the credit: at most `WINDOW` bytes beyond it are under way,
   so a reader that stops slows its own stream only and memory stays bounded.
4. The sender keeps what is not acknowledged, and can say it again after a lost link;
   the receiver drops what it already has.  Nothing is lost, nothing is doubled.

Pure: holds bytes, knows no link and no process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..errors import PeerMisbehaved
from .codec import MAX_PAYLOAD

__all__ = ["WINDOW", "Receiving", "Sending"]

# Credit of one stream.  Throughput is at most WINDOW per round trip (10 MiB/s at 100 ms);
# memory is at most WINDOW per stream on either side.
WINDOW = 1024 * 1024

# Acknowledge in steps of a quarter: early enough that the sender never stands still,
# rarely enough that acknowledgements cost nothing.
ACK_STEP = WINDOW // 4


class Sending:
    """The sender's end of one stream, from the byte `begin` on.

    What another sender sent before may still be under way: it counts as not acknowledged.
    """

    def __init__(self, window: int = WINDOW, *, begin: int = 0) -> None:
        self._window = window
        self._kept: deque[tuple[int, bytes]] = deque()
        self.acknowledged = max(0, begin - window)  # the peer has all below
        self.end = begin  # offset of the next new byte
        self.finished = False

    @property
    def room(self) -> int:
        """How many new bytes may be sent now."""
        return max(0, self.acknowledged + self._window - self.end)

    @property
    def is_done(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return self.finished and self.acknowledged >= self.end

    def take(self, data: bytes) -> int:
        """Keeps new bytes for replay and gives their offset; the caller respects `room`."""
        offset = self.end
        if data:
            self._kept.append((offset, data))
            self.end += len(data)
        return offset

    def finish(self) -> None:
        """There will be no more bytes."""
        self.finished = True

    def acknowledge(self, offset: int) -> None:
        """The peer has all below `offset`.  Raises PeerMisbehaved if that was never sent."""
        if not 0 <= offset <= self.end:
            raise PeerMisbehaved(f"The peer acknowledged byte {offset} of {self.end}", step="flow")
        self.acknowledged = max(self.acknowledged, offset)
        while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= self.acknowledged:
            self._kept.popleft()

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """What the peer may lack, in order: (offset, bytes) pieces."""
        for offset, data in self._kept:
            skip = max(0, self.acknowledged - offset)
            yield offset + skip, data[skip:]


class Receiving:
    """The receiver's end of one stream, from the byte `begin` on."""

    def __init__(self, window: int = WINDOW, *, begin: int = 0) -> None:
        self._window = window
        self._step = min(ACK_STEP, window // 4)
        self._said = begin  # acknowledged so far
        self._handed_on = begin
        self.next = begin  # offset of the byte that must come next
        self.ended = False

    def accept(self, offset: int, data: bytes, eof: bool = False) -> bytes:
        """The bytes that are new.  Raises PeerMisbehaved for a gap, or more than was granted."""
        end = offset + len(data)
        if offset < 0 or offset > self.next:
            raise PeerMisbehaved(f"Byte {offset} came where {self.next} was due", step="flow")
        if end > self._said + self._window or len(data) > MAX_PAYLOAD:
            raise PeerMisbehaved("The peer sent more than it was granted", step="flow")
        # What is said again may end where the stream had not ended yet; only a *new* byte
        # after the end, or an end before a byte that we have, contradicts what was said.
        if (self.ended and end > self.next) or (eof and end < self.next):
            raise PeerMisbehaved("Bytes came after the end of a stream", step="flow")
        fresh = data[self.next - offset :]
        self.next = max(self.next, end)
        self.ended = self.ended or eof
        return fresh

    def hand_on(self, count: int) -> int | None:
        """`count` bytes reached their reader; the offset to acknowledge, if that is due now."""
        self._handed_on += count
        if self._handed_on - self._said < self._step:
            return None
        return self.acknowledgement()

    @property
    def handed_on(self) -> int:
        """How many bytes reached their reader."""
        return self._handed_on

    def acknowledgement(self) -> int:
        """The offset below which everything was handed on; counted as said."""
        self._said = self._handed_on
        return self._said
