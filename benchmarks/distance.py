"""Chapter: the same head, farther away: each byte comes late by half a round trip.

Between the two ends is a process of ours that holds back what passes; the kernel's own netem
is not everywhere.  What counts is how many round trips a call takes: with many of them the
cost of any software is small.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from .contestants import open_peers
from .head import BenchHead
from .libraries import AsyncSsh, Execnet, Mitogen, ParamikoExec, Rpyc
from .peers import ControlMaster, FreshSsh, Peer, Rung
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["CROWD", "DISTANCES", "ONE", "TOGETHER", "TRIP", "measure_distance"]

DISTANCES = {"50 ms": 0.05, "100 ms": 0.1}  # seconds of a round trip
TRIP = "a round trip"
ONE = "one"
TOGETHER = "together"
CROWD = 100  # commands at once

Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

ROOT = Path(__file__).parent.parent
LIMIT = 10.0


def measure_distance(head: BenchHead, seconds: float, count: int, chance: random.Random) -> Contest:
    """One `true`, and over the bridge many at once, of the head at that distance."""
    trip = _Trip()
    rungs: list[Peer] = [Rung("direct"), Rung("tunnel"), Rung("stdio")]
    others = [Execnet(), Mitogen(), Rpyc(), AsyncSsh(), ParamikoExec()]
    peers: list[Peer] = [trip, *rungs, *others, ControlMaster(), FreshSsh()]
    with ExitStack() as stack:
        far, trip.port = stack.enter_context(_away(head, seconds))
        pool = stack.enter_context(ThreadPoolExecutor(CROWD))
        ready, missing = open_peers(peers, far, stack)
        turns = {peer.name: _turn_of(peer, pool, peer in rungs) for peer in ready}
        title = f"{seconds * 1000:g} ms away"
        return hold(title, turns, count, chance, missing)


def _turn_of(peer: Peer, pool: ThreadPoolExecutor, has_crowd: bool) -> Turn:
    def together() -> None:
        for future in [pool.submit(peer.call) for _ in range(CROWD)]:
            future.result()

    def take() -> Parts:
        parts = {ONE: stopwatch(peer.call)}
        return {**parts, TOGETHER: stopwatch(together)} if has_crowd else parts

    return take


class _Trip(Peer):
    """A byte there and back: what no way to that head can beat."""

    name = TRIP
    port = 0

    def open(self, head: BenchHead) -> None:
        """One connection for all calls."""
        self.connection = socket.create_connection(("127.0.0.1", self.port), LIMIT)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> None:
        """It is echoed."""
        self.connection.sendall(b"x")
        if self.connection.recv(1) != b"x":
            raise RuntimeError("it did not come back")

    def close(self) -> None:
        """The connection."""
        self.connection.close()


@contextlib.contextmanager
def _away(head: BenchHead, seconds: float) -> Iterator[tuple[BenchHead, int]]:
    """The head, as it is seen from where a round trip takes so long; where there is an echo."""
    head.ensure_server()
    argv = [sys.executable, "-m", "benchmarks.distance", str(seconds / 2)]
    argv += [str(head.sshd.port), str(head.server_port)]
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as way:
        assert way.stdout is not None
        assert way.stdin is not None
        echo, ssh_port, server_port = map(int, way.stdout.readline().split())
        try:
            yield head.seen_at(ssh_port, server_port), echo
        finally:
            way.stdin.close()
            way.wait(LIMIT)


async def _hold_back(delay: float, ports: list[int]) -> None:
    """Listens for each of the ports of this host, and says where."""
    loop = asyncio.get_running_loop()

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(1 << 16):
                loop.call_later(delay, sink.write, piece)
        loop.call_later(delay, sink.close)

    async def take(port: int, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        there, on = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(here, on), carry(there, back))

    async def echo(here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while piece := await here.read(1 << 16):
            loop.call_later(2 * delay, back.write, piece)

    ways: list[Way] = [echo, *(partial(take, port) for port in ports)]
    listeners = [await asyncio.start_server(way, "127.0.0.1", 0) for way in ways]
    print(*(one.sockets[0].getsockname()[1] for one in listeners), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)  # with all that still passes


if __name__ == "__main__":
    asyncio.run(_hold_back(float(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
