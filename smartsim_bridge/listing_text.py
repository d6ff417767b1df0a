"""Commands on the head as lines for people.

Knows what a CommandInfo holds, and neither where it came from nor where it goes.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterable, Sequence

from .client.listing import CommandInfo

__all__ = ["ID_DIGITS", "ending", "recent", "table"]

ID_DIGITS = 12  # of a command's id: enough to tell all apart that a server remembers
RECENT_SECONDS = 3600.0
DAY_SECONDS = 24 * 3600.0

_HEADINGS = ("ID", "STATE", "PID", "STARTED", "EXIT", "FLAGS", "BYTES", "COMMAND")
_NUMBERS = ("PID", "BYTES")  # stand to the right


def recent(commands: Iterable[CommandInfo], now: float) -> list[CommandInfo]:
    """Those that are not over, and those that ended within the last hour; seconds since epoch."""
    oldest = now - RECENT_SECONDS
    return [one for one in commands if not one.is_over or max(one.asked, one.ended) >= oldest]


def table(commands: Iterable[CommandInfo], now: float, width: int | None = None) -> str:
    """A heading and a line each, cut after `width` columns; times are local."""
    rows = [_HEADINGS, *(_row(one, now) for one in commands)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (_line(row, widths) for row in rows)
    return "".join(f"{line[:width].rstrip()}\n" for line in lines)


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


def _row(one: CommandInfo, now: float) -> tuple[str, ...]:
    is_followed = one.followed and not one.is_over
    flags = [word for word, holds in (("keep", one.keep), ("followed", is_followed)) if holds]
    note = f"  ({_plain(one.note)})" if one.note else ""
    return (
        _plain(one.id[:ID_DIGITS]),
        one.state,
        str(one.pid or "-"),
        _clock(one.asked, now),
        ending(one.returncode),
        ",".join(flags) or "-",
        str(one.stdout + one.stderr),
        _plain(shlex.join(one.argv)) + note,
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
        for heading, cell, width in zip(_HEADINGS, row, widths)
    )
    return "  ".join(cells)


def _clock(moment: float, now: float) -> str:
    if not moment:
        return "-"
    is_near = abs(now - moment) < DAY_SECONDS
    return time.strftime("%H:%M:%S" if is_near else "%Y-%m-%d", time.localtime(moment))


def _plain(text: str) -> str:
    """Without what would break the line, or command the terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
