"""Chapter: the round trip of one `true`, over everything that can run it."""

from __future__ import annotations

import random
from contextlib import ExitStack

from .contestants import all_peers, open_peers
from .head import BenchHead
from .peers import Peer
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["AGAIN", "FIRST", "measure_trips"]

FIRST = "first"  # after the others have had the caches
AGAIN = "again"  # at once after that: what a script sees that asks often


def measure_trips(head: BenchHead, count: int, chance: random.Random) -> Contest:
    """All peers stay connected for the whole chapter; idle ones cost the others nothing."""
    with ExitStack() as stack:
        ready, missing = open_peers(all_peers(), head, stack)
        turns = {peer.name: _turn_of(peer) for peer in ready}
        return hold("round trips", turns, count, chance, missing)


def _turn_of(peer: Peer) -> Turn:
    def take() -> Parts:
        first = stopwatch(peer.call)
        return {FIRST: first, AGAIN: first if peer.is_fresh else stopwatch(peer.call)}

    return take
