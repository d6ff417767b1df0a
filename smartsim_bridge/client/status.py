"""What a bridge can say about itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..stages import Stage
from . import markup
from .markup import Mark

__all__ = ["BridgeStatus", "Rung", "stage_table"]


_RUNG_HEADINGS = ("Way", "Outcome", "Time", "Because")


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

    @property
    def mark(self) -> Mark:
        """Its verdict for a notebook."""
        if not self.tried:
            return markup.NOT_TRIED
        return markup.HELD if self.held else markup.FAILED


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
    left_behind: tuple[str, ...] = ()  # variables of the enclosing job that do not go along

    def __str__(self) -> str:
        state = "connected" if self.connected else f"not connected ({self.fault})"
        server = f"{self.server_host}, server {self.version}, pid {self.server_pid}"
        lines = [f"{state} by {self.transport} to {server}", *map(str, self.rungs)]
        lines += [f"another server of yours: {other}" for other in self.others]
        if self.poll_cache:
            lines.append(f"answers of squeue and its like may be {self.poll_cache:g} s old")
        return "\n  ".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As IPython shows it where there is no HTML."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        state = f"connected by {self.transport}" if self.connected else "not connected"
        more = f"to {self.server_host}" if self.connected else f"({self.fault})"
        colour = markup.GOOD if self.connected else markup.BAD
        took = sum(stage.seconds for stage in self.stages)
        return markup.box(
            markup.heading(Mark("●", colour, state), more),
            markup.facts("Server", self._facts()),
            markup.table(
                ("Way", "Outcome", "Time", "Because"), _told(self.rungs), numbers=("Time",)
            ),
            markup.folded(f"{len(self.stages)} steps, {took:.2f} s", stage_table(self.stages))
            if self.stages
            else "",
        )

    def _facts(self) -> list[tuple[str, str]]:
        how = "started by this bridge" if self.started else "ran already"
        python = self.server_python + (f", pyzmq {self.server_zmq}" if self.server_zmq else "")
        others = [("another of yours", other) for other in self.others]
        facts = [
            ("version", f"{self.version}, pid {self.server_pid}, {how}"),
            ("Python", python),
            (
                "commands",
                f"{self.running} running, {self.waiting} waiting",
            ),
            ("link", f"lost and found again {self.reconnects} times" if self.reconnects else ""),
            ("log", self.server_log),
            *others,
        ]
        return [(name, value) for name, value in facts if value]


def stage_table(stages: Iterable[Stage]) -> str:
    """The steps of a connect, for a notebook."""
    rows = [(_step(stage), _time(stage.seconds), _outcome(stage)) for stage in stages]
    return markup.table(("Step", "Time", "What came of it"), rows, numbers=("Time",))


def _step(stage: Stage) -> Mark:
    symbol, colour = ("✗", markup.BAD) if stage.failed else ("✓", markup.GOOD)
    return Mark(symbol, colour, stage.name)


def _outcome(stage: Stage) -> str:
    return ", ".join(filter(None, ("failed" if stage.failed else "", stage.detail)))


def _time(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def _told(rungs: Iterable[Rung]) -> list[tuple[markup.Cell, ...]]:
    return [
        (rung.name, rung.mark, _time(rung.seconds) if rung.tried else "", rung.reason)
        for rung in rungs
    ]
