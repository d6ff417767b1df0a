"""A back seat for the server: on a busy login node whoever types there goes first.

Nothing else is changed.  Not the scheduling policy: under SCHED_BATCH each answer of a
server on a busy host came about one time slice, four milliseconds, later.  Not the OOM
score: if the host runs out of memory the kernel chooses as for any process of this user.
"""

from __future__ import annotations

import os

__all__ = ["DEFAULT_NICE", "MOST_NICE", "take_back_seat"]

DEFAULT_NICE = 5  # a third of an equal share, and only while others want the CPU
MOST_NICE = 19


def take_back_seat(nice: int) -> int:
    """Lowers this process to `nice` unless it is as low already; gives what holds then.

    To be called before there are threads: each keeps its own.  Commands inherit it and
    cannot undo it without privilege; nor can we for them.  A scheduler that hands the
    submitter's priority on (Slurm's PropagatePrioProcess) hands on this one: 0 leaves
    everything as it is.  Never raises.
    """
    try:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        if before < nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        return max(before, nice)
    except OSError:  # a sandbox may forbid it; the server serves as well without
        return 0
