"""How many files this process may open, and how many commands that makes.

Must not know what the files are.
"""

from __future__ import annotations

import contextlib
import resource

__all__ = ["commands_that_fit", "raise_limit"]

OWN_FILES = 64  # kept for sockets, links and the log
FILES_EACH = 5  # of one command: three pipes, its exit, and one while it starts
OPEN_FILES = 65536  # wanted for many commands at once, as far as the hard limit allows


def raise_limit() -> tuple[int, int]:
    """Raises our own limit of open files; gives the old one, for the commands."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if before[0] != resource.RLIM_INFINITY and before[0] < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before


def commands_that_fit() -> int:
    """How many commands at once the limit allows, without what links and files need."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return OPEN_FILES // FILES_EACH
    return max(1, (soft - OWN_FILES) // FILES_EACH)
