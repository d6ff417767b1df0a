"""Commands on the head as lines for people.

Knows what a CommandInfo holds, and neither where it came from nor where it goes.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterable, Sequence

from .listing import CommandInfo
from .markup import plain

__all__ = ["HEADINGS", "ID_DIGITS", "NUMBERS", "cells", "ending", "recent", "table"]

ID_DIGITS = 12  # of a command's id: enough to tell all apart that a server remembers
RECENT_SECONDS = 3600.0
DAY_SECONDS = 24 * 3600.0

HEADINGS = ("ID", "STATE", "PID", "STARTED", "EXIT", "FLAGS", "BYTES", "COMMAND")
NUMBERS = ("PID", "BYTES")  # stand to the right


def recent(commands: Iterable[CommandInfo], now: float) -> list[CommandInfo]:
    """Those that are not over, and those that ended within the last hour; seconds since epoch."""
    oldest = now - RECENT_SECONDS
    return [one for one in commands if not one.is_over or max(one.asked, one.ended) >= oldest]


def table(commands: Iterable[CommandInfo], now: float, width: int | None = None) -> str:
    """A heading and a line each, cut after `width` columns; times are local."""
    rows = [HEADINGS, *(cells(one, now) for one in commands)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (_line(row, widths) for row in rows)
    return "".join(f"{line[:width].rstrip()}\n" for line in lines)


def cells(one: CommandInfo, now: float) -> tuple[str, ...]:
    """What stands below each of HEADINGS."""
    is_followed = one.followed and not one.is_over
    flags = [word for word, holds in (("keep", one.keep), ("followed", is_followed)) if holds]
    note = f"  ({plain(one.note)})" if one.note else ""
    return (
        plain(one.id[:ID_DIGITS]),
        one.state,
        str(one.pid or "-"),
        _clock(one.asked, now),
        ending(one.returncode),
        ",".join(flags) or "-",
        str(one.stdout + one.stderr),
        plain(shlex.join(one.argv)) + note,
    )


def ending(returncode: int | None) -> str:
    """The exit status, or the signal by name; "-" while it runs, or where nobody knows."""
    if returncode is None:
        return "-"
    if returncode >= 0:
        return str(returncode)
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal, or one of another system
        return f"signal {-returncode}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
        for heading, cell, width in zip(HEADINGS, row, widths)
    )
    return "  ".join(padded)


def _clock(moment: float, now: float) -> str:
    if not moment:
        return "-"
    is_near = abs(now - moment) < DAY_SECONDS
    return time.strftime("%H:%M:%S" if is_near else "%Y-%m-%d", time.localtime(moment))
