"""A BridgeStatus and the steps of a connect as HTML, for a notebook.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..stages import Stage
from . import markup
from .markup import Mark

if TYPE_CHECKING:
    from .status import BridgeStatus, Rung

__all__ = ["stage_table", "status_card"]

_HELD = Mark("✓", markup.GOOD, "held")
_FAILED = Mark("✗", markup.BAD, "failed")
_NOT_TRIED = Mark("–", markup.NEUTRAL, "not tried")  # noqa: RUF001 - a dash is what is meant


def status_card(status: BridgeStatus) -> str:
    """How it is connected, to what, and why not otherwise; the steps behind a line."""
    if status.connected:
        state = Mark("●", markup.GOOD, f"connected by {status.transport}")
        more = f"to {status.server_host}"
    else:
        state, more = Mark("●", markup.BAD, "not connected"), f"({status.fault})"
    took = sum(stage.seconds for stage in status.stages)
    summary = f"{len(status.stages)} steps, {took:.2f} s"
    return markup.box(
        markup.heading(state, more),
        markup.facts("Server", [(name, text) for name, text in _facts(status) if text]),
        _rung_table(status.rungs),
        markup.folded(summary, stage_table(status.stages)) if status.stages else "",
    )


def stage_table(stages: Iterable[Stage]) -> str:
    """The steps of a connect."""
    rows = [(_step(stage), _time(stage.seconds), _outcome(stage)) for stage in stages]
    return markup.table(("Step", "Time", "What came of it"), rows, numbers=("Time",))


def _facts(status: BridgeStatus) -> list[tuple[str, str]]:
    """What is empty is not worth a line."""
    how = "started by this bridge" if status.started else "ran already"
    pyzmq = f", pyzmq {status.server_zmq}" if status.server_zmq else ""
    found_again = f"lost and found again {status.reconnects} times" if status.reconnects else ""
    age = f"answers may be {status.poll_cache:g} s old" if status.poll_cache else ""
    return [
        ("version", f"{status.version}, pid {status.server_pid}, {how}"),
        ("Python", f"{status.server_python}{pyzmq}"),
        ("commands", f"{status.running} running, {status.waiting} waiting"),
        ("link", found_again),
        ("shims here", " ".join(status.shims)),
        ("left behind", " ".join(status.left_behind)),
        ("squeue etc.", age),
        ("log", status.server_log),
        *(("another of yours", other) for other in status.others),
    ]


def _rung_table(rungs: Iterable[Rung]) -> str:
    rows = [
        (rung.name, _verdict(rung), _time(rung.seconds) if rung.tried else "", rung.reason)
        for rung in rungs
    ]
    return markup.table(("Way", "Outcome", "Time", "Because"), rows, numbers=("Time",))


def _verdict(rung: Rung) -> Mark:
    if not rung.tried:
        return _NOT_TRIED
    return _HELD if rung.held else _FAILED


def _step(stage: Stage) -> Mark:
    symbol, colour = ("✗", markup.BAD) if stage.failed else ("✓", markup.GOOD)
    return Mark(symbol, colour, stage.name)


def _outcome(stage: Stage) -> str:
    return ", ".join(filter(None, ("failed" if stage.failed else "", stage.detail)))


def _time(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
