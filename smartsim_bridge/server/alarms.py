"""What one command is to do later, by name, so that another program can do it in its place.

Times are those of the loop's clock, which is the monotonic one and goes on.  Knows names
and times, not what they mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

__all__ = ["Alarms", "Due"]

Due = tuple[float, str, float]  # when, what, and its detail


class Alarms:
    """Calls `ring(what, detail)` at each time that was set."""

    def __init__(self, ring: Callable[[str, float], None]) -> None:
        self._ring = ring
        self._timers: dict[Due, asyncio.TimerHandle] = {}

    def set(self, seconds: float, what: str, detail: float = 0.0) -> None:
        """In so many seconds."""
        self._at((asyncio.get_running_loop().time() + seconds, what, detail))

    def clear(self) -> None:
        """Nothing of it is to be done any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def hand_over(self) -> list[Due]:
        """What is still to be done."""
        return list(self._timers)

    def take_over(self, past: Iterable[Due]) -> None:
        """Goes on with that."""
        for when, what, detail in past:
            self._at((when, what, detail))

    def _at(self, due: Due) -> None:
        def ring() -> None:
            self._timers.pop(due, None)
            self._ring(due[1], due[2])

        self._timers[due] = asyncio.get_running_loop().call_at(due[0], ring)
