"""What can be said of a command without following it.

Made of the server's own words; knows nothing of talks and links.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.messages import Entry

__all__ = ["CommandInfo"]


@dataclass(frozen=True)
class CommandInfo:
    """One command on the head; times in seconds since the epoch, by the head's clock.

    `state` is "waiting" (for its turn), "running", "exited" (a child of it still holds its
    output open), "ended", "failed" (to start) or "unknown" (its server was killed).
    """

    id: str
    argv: tuple[str, ...]
    state: str
    pid: int
    returncode: int | None  # negative for a signal; None while it runs, or where unknown
    asked: float
    ended: float
    keep: bool  # whether it outlives its client
    followed: bool  # whether a client follows it now
    stdout: int  # bytes it has printed
    stderr: int
    note: str  # why it failed, or is paused

    @classmethod
    def of(cls, entry: Entry) -> CommandInfo:
        """From the server's message."""
        code = entry.code if entry.signal is None else -entry.signal
        return cls(
            entry.command,
            entry.argv,
            entry.state,
            entry.pid,
            code,
            entry.asked,
            entry.ended,
            entry.keep,
            entry.followed,
            entry.stdout,
            entry.stderr,
            entry.note,
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        return self.state in ("ended", "failed", "unknown")
