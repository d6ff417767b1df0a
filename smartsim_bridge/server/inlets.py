"""The stdin of one command: the client's bytes in order, within its credit, each once.

What comes before the command runs is kept until then.  Knows bytes and offsets, and a
process only as something that can be written to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..protocol.flow import Receiving

__all__ = ["Inlet"]


class Writable(Protocol):
    """What has an stdin."""

    def write(self, data: bytes) -> None:
        """Bytes for it."""

    def end_input(self) -> None:
        """There will be no more."""


class Inlet:
    """`say(offset, broken)` tells the client that all below has been taken."""

    def __init__(self, say: Callable[[int, bool], None]) -> None:
        self._say = say
        self._receiving = Receiving()
        self._process: Writable | None = None
        self._is_broken = False
        self.early = bytearray()  # no more than the credit of one window

    def accept(self, offset: int, data: bytes, eof: bool) -> int:
        """Passes on what is new; how many bytes of it must wait for the process.

        Raises PeerMisbehaved.
        """
        fresh = self._receiving.accept(offset, data, eof)
        if self._process is not None:
            self._write(fresh)
            return 0
        self.early += fresh
        return len(fresh)

    def open(self, process: Writable) -> None:
        """From now on it can be written to."""
        self._process = process
        self._write(bytes(self.early))
        self.early.clear()

    def written(self, count: int, broken: bool) -> None:
        """The process took so much, or takes no more; grants the client as much again."""
        due = self._receiving.hand_on(count)
        if broken:
            self._is_broken = True
            due = self._receiving.acknowledgement()
        if due is not None:
            self._say(due, broken)

    def where(self) -> tuple[int, int, bool]:
        """Where new input begins, what has been taken, and whether there can be no more."""
        receiving = self._receiving
        # New input goes behind what came before, taken or not.  After its end nobody has
        # anything to add; who tried would break the rules.
        return (
            receiving.next,
            receiving.acknowledgement(),
            self._is_broken or receiving.ended,
        )

    def hand_over(self) -> dict[str, Any]:
        """All of it but the process."""
        receiving = self._receiving
        return {
            "received": [receiving.next, receiving.handed_on, receiving.ended],
            "is_input_broken": self._is_broken,
            "early": self.early,
        }

    def take_over(self, past: dict[str, Any], process: Writable | None) -> None:
        """It goes on where another program has left it."""
        begin, handed_on, self._receiving.ended = past["received"]
        self._receiving.next = begin
        self._receiving.hand_on(handed_on)
        self._receiving.acknowledgement()
        self._is_broken, self.early = past["is_input_broken"], bytearray(past["early"])
        self._process = process

    def _write(self, data: bytes) -> None:
        assert self._process is not None
        if data:
            self._process.write(data)
        if self._receiving.ended:
            self._process.end_input()
