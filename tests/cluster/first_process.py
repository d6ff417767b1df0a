"""What the first process of a pid namespace does for the rest of its life."""

from __future__ import annotations

import os
import signal

__all__ = ["live_until_input_ends"]


def live_until_input_ends() -> None:
    """Takes up the dead until whoever holds the other end of our standard input is gone.

    Then it returns; when it exits, the kernel ends everything in its namespace.
    """
    signal.signal(signal.SIGCHLD, _reap)
    _reap()  # those who ended before anybody listened
    while os.read(0, 1):
        pass


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
