"""Chapter: much output and much input of one command, from a line to a gibibyte.

What comes is read in pieces and dropped, and what goes is zeros from memory: neither side has
a disk in it.  Only ways that have a pipe take part; the others give output as a whole.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from .contestants import open_peers
from .head import BenchHead
from .peers import ControlMaster, FreshSsh, Here, Peer, Rung
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["GIB", "GIBIBYTE", "MIB", "SIZES", "measure_input", "measure_output"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GIBIBYTE = "1 GiB"
SIZES = {"1 KiB": KIB, "1 MiB": MIB, "32 MiB": 32 * MIB, GIBIBYTE: GIB}
PIECE = MIB
LIMIT = 300.0


def measure_output(head: BenchHead, largest: int, count: int, chance: random.Random) -> Contest:
    """What a command says, in all sizes up to the largest."""
    return _measure("output", _read, head, largest, count, chance)


def measure_input(head: BenchHead, largest: int, count: int, chance: random.Random) -> Contest:
    """What a command is given, until it has it all and has ended."""
    return _measure("input", _write, head, largest, count, chance)


def _measure(
    title: str,
    move: Callable[[Peer, int], None],
    head: BenchHead,
    largest: int,
    count: int,
    chance: random.Random,
) -> Contest:
    sizes = {words: size for words, size in SIZES.items() if size <= largest}
    rungs = [Rung("local"), Rung("direct"), Rung("tunnel"), Rung("stdio")]
    peers: list[Peer] = [Here(), *rungs, ControlMaster(), FreshSsh()]
    with ExitStack() as stack:
        ready, missing = open_peers(peers, head, stack)
        turns = {peer.name: _turn_of(partial(move, peer), sizes) for peer in ready}
        return hold(title, turns, count, chance, missing)


def _turn_of(move: Callable[[int], None], sizes: dict[str, int]) -> Turn:
    def take() -> Parts:
        return {words: stopwatch(partial(move, size)) for words, size in sizes.items()}

    return take


def _read(peer: Peer, size: int) -> None:
    child: Any = peer.popen(["head", "-c", str(size), "/dev/zero"], stdin=subprocess.DEVNULL)
    came = 0
    with child.stdout as out:
        while piece := out.read(PIECE):
            came += len(piece)
    _check(child.wait(LIMIT), came, size)


def _write(peer: Peer, size: int) -> None:
    child: Any = peer.popen(["wc", "-c"], stdin=subprocess.PIPE)
    piece = bytes(min(PIECE, size))
    with child.stdin as into:
        for _ in range(size // len(piece)):
            into.write(piece)
    with child.stdout as out:
        came = int(out.read())
    _check(child.wait(LIMIT), came, size)


def _check(status: int, came: int, size: int) -> None:
    if status or came != size:
        raise RuntimeError(f"status {status}, and {came} of {size} bytes")
