"""What `commands()` gives: a list for programs, a table for people."""

from __future__ import annotations

import time
from typing import Any

from . import markup
from .listing import CommandInfo
from .listing_text import HEADINGS, NUMBERS, cells, table

__all__ = ["CommandList"]

# A server remembers hundreds; a cell that shows them all hides what runs now.
SHOWN = 40
LETTERS = 100  # of a command: a script among its words would fill the cell


class CommandList(list[CommandInfo]):
    """Commands, oldest first; a list in every respect but how it is shown."""

    def __str__(self) -> str:
        return table(self, time.time()).rstrip("\n") if self else "no commands"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As IPython shows it where there is no HTML."""
        left_out = self._left_out()
        latest = CommandList(self[-SHOWN:])
        printer.text(str(latest) + (f"\n{left_out}" if left_out else ""))

    def _repr_html_(self) -> str:
        if not self:
            return markup.box(markup.heading("No commands"))
        now = time.time()
        drawn = markup.table(
            HEADINGS,
            [_row(one, now) for one in self[-SHOWN:]],
            caption="Commands on the head",
            numbers=NUMBERS,
            code=("ID", "COMMAND"),
        )
        left_out = self._left_out()
        return markup.box(drawn, markup.heading("", left_out) if left_out else "")

    def _left_out(self) -> str:
        count = len(self) - SHOWN
        return f"and {count} older: print() shows all" if count > 0 else ""


def _row(one: CommandInfo, now: float) -> tuple[markup.Cell, ...]:
    *others, command = cells(one, now)
    return (*others, markup.Long(command, LETTERS))
