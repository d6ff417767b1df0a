"""One output stream of one command, on its way to whoever follows the command.

Numbers what the process prints, keeps it until it is acknowledged, and sends no more than
the follower has granted.  A follower that stops reading stops the process at its full
pipe; while nobody follows, the spool takes what it can hold.  Knows bytes and offsets, not
processes and not links.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import PeerMisbehaved
from ..protocol.codec import MAX_PAYLOAD
from ..protocol.flow import WINDOW
from .spool import Kept

__all__ = ["Outlet"]

PIPE_FULL = 64 * 1024  # what a Linux pipe holds, as a rule
# Of the output of a command that outlives its client, for whoever attaches later.
RETAINED = 64 * 1024 * 1024


class Outlet:
    """The bytes of one stream; `send(offset, data)` is called for what may go now."""

    def __init__(self, kept: Kept, send: Callable[[int, bytes], None], *, retain: bool) -> None:
        self._kept = kept
        self._send = send
        self.retain = retain  # what was acknowledged, too: somebody may attach later
        self._sent = 0
        self._taken = 0
        self._is_followed = False
        self._last_end = 0  # up to there the spool takes it though it is full
        self.is_finished = False

    @property
    def room(self) -> int:
        """How many bytes the process may print now."""
        if self._is_followed:
            return max(0, self._taken + WINDOW - self._kept.end)
        return max(self._kept.room, self._last_end - self._kept.end)

    @property
    def spare(self) -> int:
        """How many bytes could be kept though the follower is slow."""
        return self._kept.room

    @property
    def end(self) -> int:
        """How many bytes there have been."""
        return self._kept.end

    @property
    def why_full(self) -> str:
        """Why the process must wait though nobody follows it; empty where it need not."""
        return "" if self._is_followed else self._kept.why_full

    @property
    def is_sent(self) -> bool:
        """Whether the follower was sent all there is."""
        return self._is_followed and self._sent >= self._kept.end

    def take(self, data: bytes) -> None:
        """New bytes of the process, more than there is room for where another reads them, too.

        Raises OSError where earlier ones cannot be read again.
        """
        offset = self._kept.append(data)
        end = offset + len(data)
        is_next = self._is_followed and self._sent == offset
        # The usual case, without reading back what is at hand.
        if is_next and len(data) <= MAX_PAYLOAD and end <= self._taken + WINDOW:
            self._sent = end
            self._send(offset, data)
        else:
            self.pump()

    def acknowledge(self, offset: int) -> None:
        """The follower has all below `offset`, and room for a window beyond.

        Raises PeerMisbehaved where that was never sent, OSError as `pump`.
        """
        if not 0 <= offset <= self._sent:
            raise PeerMisbehaved(
                f"The peer acknowledged byte {offset} of {self._sent}", step="flow"
            )
        if offset > self._taken:
            self._taken = offset
            if self.retain:
                self._kept.trim(RETAINED if self._kept.can_spill else 0, offset)
            else:
                self._kept.drop_below(offset)
            self.pump()

    def follow(self, offset: int) -> int:
        """Somebody has all below `offset`; where the output will begin that he gets."""
        self._sent = self._taken = min(max(offset, self._kept.base), self._kept.end)
        self._is_followed = True
        if not self.retain:
            self._kept.drop_below(self._taken)
        return self._taken

    def skip(self) -> None:
        """The follower wants no more of it."""
        if self._is_followed:
            self._sent = self._taken = self._kept.end

    def let_finish(self) -> None:
        """The process has ended: what its pipe may hold, and the end, are still to come."""
        self._last_end = max(self._last_end, self._kept.end + PIPE_FULL + 1)

    def leave(self) -> None:
        """Nobody follows it now."""
        self._is_followed = False

    def pump(self) -> None:
        """Sends what was granted and is there.  Raises OSError where the spool is damaged."""
        end = min(self._kept.end, self._taken + WINDOW)
        while self._is_followed and self._sent < end:
            data = self._kept.read(self._sent, min(MAX_PAYLOAD, end - self._sent))
            offset, self._sent = self._sent, self._sent + len(data)
            self._send(offset, data)

    def whole(self, limit: int) -> bytes | None:
        """All that it printed, from the first byte, where that is no more than `limit` bytes."""
        kept = self._kept
        if kept.base > 0 or kept.end > limit:
            return None
        return kept.read(0, limit) if kept.end else b""

    def hand_over(self) -> dict[str, Any]:
        """All of it but who follows it."""
        kept = self._kept.hand_over()
        return {
            "kept": kept,
            "retain": self.retain,
            "is_finished": self.is_finished,
            "last_end": self._last_end,
        }

    def take_over(self, past: dict[str, Any]) -> None:
        """It goes on where another program has left it, and nobody follows it yet."""
        self._kept.take_over(past["kept"])
        self.retain, self.is_finished = past["retain"], past["is_finished"]
        self._last_end = past["last_end"]
        self._is_followed = False

    def close(self) -> None:
        """Forgets it all."""
        self._kept.close()
