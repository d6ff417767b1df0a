"""What the command line says to the person: on stderr, a line each."""

from __future__ import annotations

import sys
from contextlib import suppress

from ..stages import Stage

__all__ = ["say", "show"]


def say(text: str) -> None:
    """One line for the person."""
    with suppress(OSError):  # the terminal was closed: there is nobody to tell
        sys.stderr.write(f"smartsim-bridge: {text}\n")
        sys.stderr.flush()


def show(stage: Stage) -> None:
    """A step on the way that has ended."""
    failed = "  FAILED" if stage.failed else ""
    sys.stderr.write(f"{stage.seconds * 1000:8.1f} ms  {stage.name:13} {stage.detail}{failed}\n")
