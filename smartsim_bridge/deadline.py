"""One time limit through all the steps of a connect, so that steps do not add up.

A `Deadline` is made once, where the user's `timeout` arrives, and handed down; each
step asks what is left.  It uses the monotonic clock: a changed wall clock moves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ONE_DAY", "Deadline"]

ONE_DAY = 86400.0  # for what takes no infinity, as sockets and selectors


class Deadline:
    """A point in monotonic time; `seconds=None` never comes."""

    def __init__(
        self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end = None if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that remain, never negative; infinity where there is no limit."""
        return float("inf") if self._end is None else max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether no time remains."""
        return self.left <= 0.0

    def at_most(self, seconds: float) -> float:
        """What remains, but no more than `seconds`: the limit of one step."""
        return min(self.left, seconds)

    def within(self, seconds: float) -> Deadline:
        """A deadline for one step: `seconds` from now, and never later than this one."""
        return Deadline(self.at_most(seconds), clock=self._clock)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time that the block takes does not count: a person is typing."""
        began = self._clock()
        try:
            yield
        finally:
            if self._end is not None:
                self._end += self._clock() - began

    def __repr__(self) -> str:
        return f"Deadline({self.left:.1f} s left)"
