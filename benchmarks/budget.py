"""What was promised of speed and size, and whether this run kept it.

Promises are ratios between what one run measured on one machine, so that they mean the same
on another; only memory is counted in MB.  A promise is kept if the median keeps it; the
quartiles beside it say how narrow that was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import bulk, cold, crowd, shims, trips
from .distance import CROWD, DISTANCES, ONE, TOGETHER, TRIP
from .figures import Spread, ratio
from .growth import Grown
from .peers import FreshSsh, Here
from .rounds import Contest

__all__ = ["BUDGET", "MEMORY_MB", "Promise", "Verdict", "judge"]

MEMORY_MB = 40.0  # of a server on a login node that belongs to everybody
FLAT = 1.25  # between two stages, which are minutes apart


@dataclass(frozen=True)
class Promise:
    """`measured` is at most `limit` times `against`, both of one chapter."""

    words: str
    chapter: str
    measured: tuple[str, str]
    against: tuple[str, str]
    limit: float


@dataclass(frozen=True)
class Verdict:
    """A promise and what came of it; `found` is None where nothing was measured."""

    words: str
    found: Spread | None
    limit: float

    @property
    def kept(self) -> bool | None:
        """None where it cannot be told."""
        return None if self.found is None else self.found.median <= self.limit


def _trip(words: str, rung: str, against: str, limit: float) -> Promise:
    return Promise(words, "trips", (f"bridge {rung}", trips.FIRST), (against, trips.FIRST), limit)


def _start(words: str, what: str, part: str, limit: float) -> Promise:
    return Promise(words, "cold", (what, part), (cold.SSH, cold.FIRST), limit)


def _crowd(rung: str) -> Promise:
    words = f"many commands at once over {rung}, to subprocess.run with as many threads"
    return Promise(
        words, "crowd", (f"bridge {rung}", crowd.SECONDS), (Here.name, crowd.SECONDS), 1.3
    )


def _output(rung: str, limit: float) -> Promise:
    words = f"{bulk.GIBIBYTE} of output over {rung}, to fresh ssh"
    measured, against = (f"bridge {rung}", bulk.GIBIBYTE), (FreshSsh.name, bulk.GIBIBYTE)
    return Promise(words, "output", measured, against, limit)


def _distant(distance: str, rung: str) -> Promise:
    """One round trip and not two; what is between is spawning and this machine."""
    words = f"`true` over {rung}, {distance} away, to a round trip"
    return Promise(words, distance, (f"bridge {rung}", ONE), (TRIP, ONE), 1.5)


def _together(distance: str, rung: str) -> Promise:
    words = f"{CROWD} at once over {rung}, {distance} away, to one"
    name = f"bridge {rung}"
    return Promise(words, distance, (name, TOGETHER), (name, ONE), 2.0)


BUDGET = (
    _trip("`true` over direct, to local subprocess.run", "direct", Here.name, 1.5),
    _trip("`true` over the tunnel, to execnet", "tunnel", "execnet", 1.0),
    _trip("`true` over the tunnel, to mitogen", "tunnel", "mitogen", 1.0),
    _trip("`true` over the tunnel, to ssh ControlMaster", "tunnel", "ssh ControlMaster", 1 / 3),
    _start("autostart, nothing there, to fresh ssh", cold.NOTHING, cold.FIRST, 2.0),
    _start("autostart, far half there, to fresh ssh", cold.FAR_HALF, cold.FIRST, 2.0),
    _start("reconnect over direct, to fresh ssh", cold.DIRECT, cold.FIRST, 0.2),
    _start("the same with interpreter and imports", cold.DIRECT, cold.WHOLE, 0.2),
    _crowd("direct"),
    _crowd("tunnel"),
    Promise(
        "a shim, to `python -I -S -c pass`",
        "shims",
        (shims.SHIM, shims.SECONDS),
        (shims.BARE, shims.SECONDS),
        1.5,
    ),
    _output("direct", 1.0),
    _output("tunnel", 2.0),
    *(_distant(words, rung) for words in DISTANCES for rung in ("direct", "tunnel")),
    *(_together(words, rung) for words in DISTANCES for rung in ("direct", "tunnel")),
)


def judge(
    contests: Mapping[str, Contest], memory: Mapping[str, float], growth: Sequence[Grown]
) -> list[Verdict]:
    """All promises, then growth, then the server's memory."""
    verdicts = [
        Verdict(one.words, ratio(contests[one.chapter], one.measured, one.against), one.limit)
        for one in BUDGET
    ]
    for one in growth[1:]:
        words = f"`true` with {one.words}, to with {growth[0].words}"
        verdicts.append(Verdict(words, _grew(one, growth[0]), FLAT))
    for when, size in memory.items():
        verdicts.append(Verdict(f"server's memory, {when}, in MB", Spread.of([size]), MEMORY_MB))
    return verdicts


def _grew(later: Grown, first: Grown) -> Spread | None:
    if later.cost is None or not first.cost:
        return None
    return Spread.of([later.cost / first.cost])
