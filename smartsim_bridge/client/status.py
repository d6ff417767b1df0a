"""What a bridge can say about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..stages import Stage
from .status_card import status_card

__all__ = ["BridgeStatus", "Rung"]


@dataclass(frozen=True)
class Rung:
    """One way to the head: whether it `held`, or the `reason` why not; `seconds` it took.

    `tried` is False for a rung that does not apply, or was not needed.
    """

    name: str
    held: bool
    reason: str
    seconds: float = 0.0
    tried: bool = True

    def __str__(self) -> str:
        verdict = "held" if self.held else "failed" if self.tried else "not tried"
        return f"{self.name}: {verdict}" + (f", {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class BridgeStatus:
    """The bridge and its server at one moment."""

    connected: bool
    transport: str  # "local", "direct", "tunnel" or "stdio"
    endpoint: str
    server_host: str
    server_pid: int
    version: str  # the server's
    started: bool  # whether this bridge had to start the server
    rungs: tuple[Rung, ...]
    stages: tuple[Stage, ...] = ()
    clients: int = 0
    running: int = 0  # commands, of all clients
    waiting: int = 0  # ... that wait for their turn
    reconnects: int = 0  # how often the link was lost and found again
    server_python: str = ""
    server_zmq: str = ""  # pyzmq on the head; empty where there is none
    server_log: str = ""
    fault: str = ""  # why it is not connected
    others: tuple[str, ...] = ()  # servers of yours on other heads that share the home
    polls: int = 0  # squeue and its like, of all clients
    joined: int = 0  # ... that were answered by the run of another
    poll_cache: float = 0.0  # for how many seconds the server keeps an answer
    shims: tuple[str, ...] = ()  # commands of the head that this process has stand-ins for
    notices: tuple[str, ...] = ()  # what works less well than it might, and why
    left_behind: tuple[str, ...] = ()  # variables of the enclosing job that do not go along

    def __str__(self) -> str:
        state = "connected" if self.connected else f"not connected ({self.fault})"
        server = f"{self.server_host}, server {self.version}, pid {self.server_pid}"
        lines = [f"{state} by {self.transport} to {server}", *map(str, self.rungs)]
        lines += [f"another server of yours: {other}" for other in self.others]
        if self.shims:
            lines.append(f"shims: {' '.join(self.shims)}")
        if self.left_behind:
            lines.append(f"left behind: {' '.join(self.left_behind)}")
        lines += self.notices
        if self.poll_cache:
            lines.append(f"answers of squeue and its like may be {self.poll_cache:g} s old")
        return "\n  ".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As IPython shows it where there is no HTML."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return status_card(self)
