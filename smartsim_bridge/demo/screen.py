"""How the demo looks: headings, a left column for names, colours where they are welcome.

What comes from a host may hold anything, so control characters are shown, not obeyed.
"""

from __future__ import annotations

import os
from typing import TextIO

from ..stages import Stage

__all__ = ["Screen", "printable"]

NAME_WIDTH = 16
BOLD, DIM, GREEN, RED = "1", "2", "32", "31"


def printable(text: str) -> str:
    """`text` with every control character spelled out: a terminal obeys some of them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Screen:
    """Writes to `out`, each line at once: the demo is watched, and often through a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._coloured = (
            out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def heading(self, text: str) -> None:
        """A new act."""
        self._write(f"\n{self._paint(BOLD, printable(text))}")

    def say(self, text: str) -> None:
        """A remark under the heading."""
        self._write(f"  {self._paint(DIM, printable(text))}")

    def show(self, name: str, value: str, *, good: bool | None = None) -> None:
        """A name and what there is to say of it; `good` colours the value."""
        colour = {True: GREEN, False: RED, None: ""}[good]
        self._write(f"  {printable(name):<{NAME_WIDTH}} {self._paint(colour, printable(value))}")

    def stage(self, stage: Stage) -> None:
        """A step on the way to the head, as it ends."""
        time = self._paint(DIM, f"{stage.seconds:7.3f} s")
        detail = printable(stage.detail)
        if stage.failed:
            detail = self._paint(RED, f"failed {detail}".rstrip())
        self._write(f"  {printable(stage.name):<{NAME_WIDTH}} {time}  {detail}".rstrip())

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured and colour and text else text

    def _write(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()
