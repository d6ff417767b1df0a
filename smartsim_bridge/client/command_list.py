"""What `commands()` gives: a list for programs, a table for people."""

from __future__ import annotations

import time
from typing import Any

from . import markup
from .listing import CommandInfo
from .listing_text import HEADINGS, NUMBERS, cells, table

__all__ = ["CommandList"]

# A server remembers hundreds; a cell that shows them all hides what runs now.
SHOWN = 40  # besides older ones that are not over
LETTERS = 100  # of a command: a script among its words would fill the cell


class CommandList(list[CommandInfo]):
    """Commands, oldest first; a list in every respect but how it is shown."""

    def __str__(self) -> str:
        return table(self, time.time()).rstrip("\n") if self else "no commands"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As IPython shows it where there is no HTML."""
        shown, left_out = self._shown()
        printer.text(f"{shown}\n{left_out}" if left_out else str(shown))

    def _repr_html_(self) -> str:
        if not self:
            return markup.box(markup.heading("No commands"))
        shown, left_out = self._shown()
        now = time.time()
        drawn = markup.table(
            HEADINGS,
            [_row(one, now) for one in shown],
            caption="Commands on the head",
            numbers=NUMBERS,
            code=("ID", "COMMAND"),
        )
        return markup.box(drawn, markup.heading("", left_out) if left_out else "")

    def _shown(self) -> tuple[CommandList, str]:
        """What is shown, and a line that says what is not."""
        older = [one for one in self[:-SHOWN] if not one.is_over]
        shown = CommandList([*older, *self[-SHOWN:]])
        count = len(self) - len(shown)
        return shown, f"and {count} older: print() shows all" if count else ""


def _row(one: CommandInfo, now: float) -> tuple[markup.Cell, ...]:
    *others, command = cells(one, now)
    return (*others, markup.Long(command, LETTERS))
