"""Medians, quartiles and ratios.  Pure; no mean anywhere: one hiccup would decide it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .rounds import Contest

__all__ = ["Spread", "ratio", "spread"]


@dataclass(frozen=True)
class Spread:
    """The middle of some numbers: half of them lie between `low` and `high`."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread | None:
        """None where there are no numbers."""
        if not numbers:
            return None
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0], 1)
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(low, median, high, len(numbers))


def spread(contest: Contest, name: str, part: str) -> Spread | None:
    """Of one part of one contestant, over all rounds."""
    return Spread.of(contest.values(name, part))


def ratio(contest: Contest, measured: tuple[str, str], against: tuple[str, str]) -> Spread | None:
    """Of two contestants' parts, taken within each round, then over all rounds."""
    found = []
    for at in range(len(contest.rounds)):
        above, below = contest.value(at, *measured), contest.value(at, *against)
        if above is not None and below:
            found.append(above / below)
    return Spread.of(found)
