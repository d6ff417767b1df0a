"""Chapter: the round trip of one `true`, over everything that can run it."""

from __future__ import annotations

import random
from contextlib import ExitStack

from .head import BenchHead
from .peers import Peer, all_peers
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["AGAIN", "FIRST", "measure_trips"]

FIRST = "first"  # after the others have had the caches
AGAIN = "again"  # at once after that: what a script sees that asks often

WARM_UPS = 3  # the first calls load modules, there and here


def measure_trips(head: BenchHead, count: int, chance: random.Random) -> Contest:
    """All peers stay connected for the whole chapter; idle ones cost the others nothing."""
    turns: dict[str, Turn] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for peer in all_peers():
            missing_for = peer.why_missing() or _open(peer, head, stack)
            if missing_for:
                missing[peer.name] = missing_for
            else:
                turns[peer.name] = _turn_of(peer)
        return hold("round trips", turns, count, chance, missing)


def _open(peer: Peer, head: BenchHead, stack: ExitStack) -> str:
    try:
        peer.open(head)
        stack.callback(peer.close)
        for _ in range(1 if peer.is_fresh else WARM_UPS):
            peer.call()
    except Exception as fault:  # noqa: BLE001 - reported as missing, with its words
        return f"{type(fault).__name__}: {fault}"
    return ""


def _turn_of(peer: Peer) -> Turn:
    def take() -> Parts:
        first = stopwatch(peer.call)
        return {FIRST: first, AGAIN: first if peer.is_fresh else stopwatch(peer.call)}

    return take
