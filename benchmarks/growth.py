"""Chapter: what a `true` costs, and what memory holds, after many commands and among many clients.

Each stage has rounds of its own, with `subprocess.run` in each, so that stages can be compared
by their ratios though the machine is another one by then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import ratio
from .head import BenchHead
from .peers import COMMAND, Here
from .rounds import Contest, hold, stopwatch

if TYPE_CHECKING:
    from smartsim_bridge import Bridge

__all__ = ["SECONDS", "Grown", "measure_growth"]

SECONDS = "seconds"
BRIDGE = "bridge direct"
THREADS = 8  # that run what is to have been run before
CLIENTS = (10, 100)


@dataclass(frozen=True)
class Grown:
    """One stage; the memory in MB, ours as what was added since the first client came."""

    words: str
    contest: Contest
    server_mb: float
    client_mb: float

    @property
    def cost(self) -> float | None:
        """The median of a `true`, to that of subprocess.run."""
        found = ratio(self.contest, (BRIDGE, SECONDS), (Here.name, SECONDS))
        return None if found is None else found.median


def measure_growth(
    head: BenchHead, commands: int, count: int, chance: random.Random
) -> list[Grown]:
    """From one client without a past to `commands` commands, then to a hundred clients."""
    head.end_server()
    with ExitStack() as stack:
        bridges = [stack.enter_context(head.bridge("direct"))]
        before = _our_memory()

        def stage(words: str) -> Grown:
            turns = {
                Here.name: lambda: {SECONDS: stopwatch(Here().call)},
                BRIDGE: lambda: {SECONDS: stopwatch(_true(chance.choice(bridges)))},
            }
            contest = hold(words, turns, count, chance)
            return Grown(words, contest, head.memory(), _our_memory() - before)

        grown = [stage("1 client")]
        for number in _powers_of_ten(commands):
            _run_many(bridges[0], number)
            grown.append(stage(f"1 client, {number:,} commands later"))
        for number in CLIENTS:
            while len(bridges) < number:
                bridges.append(stack.enter_context(head.bridge("direct")))
                _true(bridges[-1])()
            grown.append(stage(f"{number} clients"))
    return grown


def _powers_of_ten(last: int) -> Iterator[int]:
    number = 100
    while number <= last:
        yield number
        number *= 10


def _run_many(bridge: Bridge, number: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(_true(bridge)) for _ in range(number)]:
            future.result()


def _true(bridge: Bridge) -> Callable[[], object]:
    return lambda: bridge.run(COMMAND, check=True)


def _our_memory() -> float:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("the kernel does not say VmRSS")
