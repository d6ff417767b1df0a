"""What a process takes of its host, and clients in a process of their own that can be measured.

    with apart(seconds=60) as pool:
        client = pool.submit(os.getpid).result()
        told = pool.submit(work, ...).result()      what it returns, or raises
    footprint(server_pid).resident

Linux only: asks /proc.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MIB", "Footprint", "apart", "footprint", "forget_peak", "own_descriptors"]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Footprint:
    """Of one process, now; `resident` and `peak` in bytes, `peak` since `forget_peak`."""

    resident: int
    peak: int
    descriptors: int
    threads: int

    @property
    def handles(self) -> tuple[int, int]:
        """What is to be given back: descriptors and threads."""
        return self.descriptors, self.threads


def footprint(pid: int) -> Footprint:
    """What the process takes."""
    told = {}
    for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        told[name] = value.split()
    return Footprint(
        resident=int(told["VmRSS"][0]) * 1024,
        peak=int(told["VmHWM"][0]) * 1024,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(told["Threads"][0]),
    )


def forget_peak(pid: int) -> Footprint:
    """From now on `peak` is the most that it takes; gives what it takes now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")
    return footprint(pid)


def own_descriptors() -> list[str]:
    """What this process has open.

    Of tests before this one nothing is left to be closed in the middle of it.
    """
    gc.collect()
    return sorted(os.listdir("/proc/self/fd"))


@contextmanager
def apart(seconds: float) -> Iterator[ProcessPoolExecutor]:
    """A process of its own that works off what is submitted; it has `seconds`, then it dies.

    It begins with this one's environment, and nothing else of it.
    """
    with ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.alarm,
        initargs=(int(seconds),),
    ) as pool:
        yield pool
