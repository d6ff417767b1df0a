"""The steps of a connect, shown while they happen.

In a notebook one output that is drawn anew as each step ends; in a terminal a line each.
Called from whichever thread a step ends in; knows stages and errors, not what they are for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..client import markup
from ..client.status_card import stage_table
from ..errors import BootstrapFailed, CommandServerError, NoRungHeld
from ..stages import Stage

__all__ = ["Lines", "Picture", "Progress"]


class Progress:
    """Listens to stages until it is told the end."""

    shows_advice = False  # of the error: else whoever raises it has to

    def __init__(self, target: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self.stages: list[Stage] = []
        self._clock = clock
        self._began = clock()
        self._is_over = False
        # Steps end in several threads, and what is drawn last is what stays.
        self._one_at_a_time = threading.Lock()

    def __call__(self, stage: Stage) -> None:
        """A step ended; one of a later login, when the link was lost, belongs to no cell."""
        with self._one_at_a_time:
            if not self._is_over:
                self.stages.append(stage)
                self.draw(markup.Mark("…", markup.NEUTRAL, f"Connecting to {self.target}"))

    def succeed(self) -> None:
        """The bridge stands."""
        self._end(markup.Mark("✓", markup.GOOD, f"Connected to {self.target}"))

    def fail(self, error: BaseException) -> None:
        """It does not."""
        self._end(markup.Mark("✗", markup.BAD, f"Not connected to {self.target}"), error)

    def _end(self, mark: markup.Mark, error: BaseException | None = None) -> None:
        with self._one_at_a_time:
            self._is_over = True
            self.draw(mark, error)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    def draw(self, mark: markup.Mark, error: BaseException | None = None) -> None:
        """Shows all there is to be shown now."""
        raise NotImplementedError


class Lines(Progress):
    """For a terminal: what was printed stays."""

    def __init__(self, target: str, **keywords: Any) -> None:
        super().__init__(target, **keywords)
        self._printed = 0

    def draw(self, mark: markup.Mark, error: BaseException | None = None) -> None:
        """Prints what is new."""
        fresh, self._printed = self.stages[self._printed :], len(self.stages)
        sys.stderr.write("".join(f"{_line(stage)}\n" for stage in fresh))
        if self._is_over:
            sys.stderr.write(f"{mark.symbol} {mark.words}, {self.seconds:.1f} s\n")
        sys.stderr.flush()


class Picture(Progress):
    """For a notebook: one output, drawn anew."""

    shows_advice = True

    def __init__(self, target: str, display: Callable[..., Any], **keywords: Any) -> None:
        super().__init__(target, **keywords)
        self._display = display
        self._handle: Any = None
        self.draw(markup.Mark("…", markup.NEUTRAL, f"Connecting to {target}"))

    def draw(self, mark: markup.Mark, error: BaseException | None = None) -> None:
        """Sends it all, as HTML and as text."""
        bundle = {"text/html": self._html(mark, error), "text/plain": self._text(mark, error)}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
            return
        with suppress(RuntimeError):  # the kernel ends, and this is another thread
            self._handle.update(bundle, raw=True)

    def _html(self, mark: markup.Mark, error: BaseException | None) -> str:
        return markup.box(
            markup.heading(mark, f"after {self.seconds:.1f} s" if self._is_over else ""),
            stage_table(self.stages) if self.stages else "",
            _reason(error) if error is not None else "",
        )

    def _text(self, mark: markup.Mark, error: BaseException | None) -> str:
        took = f", {self.seconds:.1f} s" if self._is_over else ""
        said = "" if error is None else str(error)
        lines = [f"{mark.symbol} {mark.words}{took}", *map(_line, self.stages)]
        return "\n".join([*lines, *map(markup.plain, said.splitlines())])


def _reason(error: BaseException) -> str:
    """What failed, and what to do about it."""
    if not isinstance(error, CommandServerError):
        return markup.note(type(error).__name__, str(error))
    where = ", ".join(one for one in (error.host, error.step) if one)
    said = f"{error.what} ({where})" if where else error.what
    rows = error.reasons if isinstance(error, NoRungHeld) else ()
    noise = error.noise if isinstance(error, BootstrapFailed) else ""
    return markup.note(
        type(error).__name__,
        said,
        *(f"{rung}: {reason}" for rung, reason in rows),
        *((f"The host said: {noise}",) if noise else ()),
        advice=error.advice,
    )


def _line(stage: Stage) -> str:
    mark = "✗" if stage.failed else "✓"
    words = f"{mark} {stage.name:13} {stage.seconds * 1000:8,.0f} ms  {markup.plain(stage.detail)}"
    return words.rstrip() + ("  failed" if stage.failed else "")
