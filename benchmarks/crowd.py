"""Chapter: a thousand commands from one client at once, and what the server's memory says."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from .contestants import open_peers
from .head import BenchHead
from .peers import Here, Peer, Rung
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["PARALLEL", "SECONDS", "measure_crowd"]

PARALLEL = 64  # threads, each waiting for its own command
SECONDS = "seconds"


def measure_crowd(
    head: BenchHead, commands: int, count: int, chance: random.Random
) -> tuple[Contest, dict[str, float]]:
    """The rounds, and the server's memory in MB: at rest, after them, and at most."""
    peers: list[Peer] = [Here(), Rung("direct"), Rung("tunnel"), Rung("stdio")]
    # A new one, in whose memory nobody has been yet.
    head.end_server()
    head.ensure_server()
    memory = {"at rest": head.memory()}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(PARALLEL))
        ready, missing = open_peers(peers, head, stack)
        turns = {peer.name: _turn_of(peer, commands, pool) for peer in ready}
        contest = hold(f"{commands} commands", turns, count, chance, missing)
        memory["after"] = head.memory()
        memory["highest"] = head.memory("VmHWM")
    return contest, memory


def _turn_of(peer: Peer, commands: int, pool: ThreadPoolExecutor) -> Turn:
    def all_at_once() -> None:
        for future in [pool.submit(peer.call) for _ in range(commands)]:
            future.result()

    def take() -> Parts:
        return {SECONDS: stopwatch(all_at_once)}

    return take
