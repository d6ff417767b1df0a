"""Turns in shuffled order, round after round, so that noise hits all alike.

A machine is never quiet.  In each round every contestant has one turn, in an order drawn
anew; what disturbs a round disturbs its neighbours too, and ratios are taken within a
round.  Knows nothing of what the turns do.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Contest", "Parts", "Turn", "hold", "stopwatch"]

# What one turn measured: seconds, by the name of the part ("first", "again", "imports").
Parts = dict[str, float]
Turn = Callable[[], Parts]


@dataclass
class Contest:
    """What the rounds of one chapter measured; raw, in the order in which they ran.

    A turn that failed is absent from its round, and its last fault is kept.  `missing` says
    why a contestant did not take part at all.
    """

    rounds: list[dict[str, Parts]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def values(self, name: str, part: str) -> list[float]:
        """What was measured of one part, without the rounds in which it failed."""
        found = (self.value(at, name, part) for at in range(len(self.rounds)))
        return [value for value in found if value is not None]

    def value(self, at: int, name: str, part: str) -> float | None:
        """One part in one round."""
        return self.rounds[at].get(name, {}).get(part)

    def failures(self, name: str) -> int:
        """In how many rounds it took part and failed."""
        if name in self.missing:
            return 0
        return sum(name not in one for one in self.rounds)

    def as_json(self) -> dict[str, object]:
        """For the results file; microseconds are exact enough."""
        rounded = [
            {name: {part: round(value, 6) for part, value in parts.items()} for name, parts in one}
            for one in (measured.items() for measured in self.rounds)
        ]
        return {"rounds": rounded, "faults": self.faults, "missing": self.missing}


def hold(
    title: str,
    turns: Mapping[str, Turn],
    count: int,
    chance: random.Random,
    missing: Mapping[str, str] | None = None,
) -> Contest:
    """`count` rounds of all `turns`; a turn that fails is noted and costs only itself."""
    contest = Contest(missing=dict(missing or {}))
    names = list(turns)
    for number in range(1, count + 1):
        _say(f"{title}: round {number} of {count}")
        chance.shuffle(names)
        measured: dict[str, Parts] = {}
        for name in names:
            try:
                measured[name] = turns[name]()
            except Exception as fault:  # noqa: BLE001 - whatever a peer raises is its result
                contest.faults[name] = f"{type(fault).__name__}: {fault}"
        contest.rounds.append(measured)
    _say(f"{title}: {count} rounds", end="\n")
    return contest


def stopwatch(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _say(text: str, end: str = "") -> None:
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end=end, file=sys.stderr, flush=True)
    elif end:
        print(text, file=sys.stderr, flush=True)
