"""A long cable to a host: what passes comes late, and some of it never.

    python -S -m tests.cluster.slow_cable HOST PID ADDRESS WAY

Two tun devices, one with the router and one with the host, and this process in between, which
carries the packets: the kernel's own netem is not everywhere.  Started in the router's network
by cluster.py; ends with its standard input, and the devices and their routes with it.
Standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

__all__ = ["Way"]

SITE = "10.77.0.0/16"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
QUEUE_SECONDS = 1.0  # of packets that wait for the rate; those beyond are dropped
LARGEST = 65536


@dataclass(frozen=True)
class Way:
    """How it is in each of both directions: seconds, a share of the packets, bits per second."""

    delay: float = 0.0
    loss: float = 0.0
    rate: float = 0.0  # 0: as fast as can be
    mtu: int = 1500

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Direction:
    """Packets under way, the oldest first."""

    def __init__(self, way: Way, source: int, sink: int) -> None:
        self.source = source
        self._way = way
        self._sink = sink
        self._chance = random.Random(1)
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0

    def take(self, now: float) -> None:
        packet = os.read(self.source, LARGEST)
        start = max(now, self._free_at)
        if self._chance.random() < self._way.loss or start - now > QUEUE_SECONDS:
            return
        self._free_at = start + (8 * len(packet) / self._way.rate if self._way.rate else 0.0)
        self._under_way.append((self._free_at + self._way.delay, packet))

    def deliver(self, now: float) -> None:
        """Hands over what is due."""
        while self._under_way and self._under_way[0][0] <= now:
            os.write(self._sink, self._under_way.popleft()[1])

    @property
    def next_at(self) -> float:
        """When there is more to hand over."""
        return self._under_way[0][0] if self._under_way else float("inf")


def main() -> None:
    host, pid, address, way = sys.argv[1:]
    lay(host, pid, address, Way(**json.loads(way)))


def lay(host: str, pid: str, address: str, way: Way) -> None:
    device = f"way-{host}"
    near = open_device(device, way.mtu)
    run("ip", "route", "add", address, "dev", device)
    enter_network(pid)
    far = open_device(device, way.mtu)
    # More to the point than the default route, which the router's old cable has.
    run("ip", "route", "add", SITE, "dev", device, "src", address)
    print("ready", flush=True)
    carry(Direction(way, near, far), Direction(way, far, near))


def open_device(name: str, mtu: int) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "link", "set", name, "mtu", str(mtu), "up")
    return device


def enter_network(pid: str) -> None:
    with open(f"/proc/{pid}/ns/net", "rb") as network:
        if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def carry(*directions: Direction) -> None:
    while True:
        now = time.monotonic()
        limit = min(direction.next_at for direction in directions) - now
        sources = [direction.source for direction in directions]
        wait = None if limit == float("inf") else max(0.0, limit)
        ready, _, _ = select.select([0, *sources], [], [], wait)
        if 0 in ready:
            return
        now = time.monotonic()
        for direction in directions:
            if direction.source in ready:
                direction.take(now)
            direction.deliver(now)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
