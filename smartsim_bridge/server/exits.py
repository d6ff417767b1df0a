"""Tells when a child process has ended, without polling.

A pidfd where the kernel has them (Linux 5.3), else SIGCHLD, which says only that some
child ended, so that all watched ones are asked.  Knows nothing of what the processes are.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from .adopted import Child

__all__ = ["ExitWatch"]


class ExitWatch:
    """Calls back once for each watched process, in the loop, when it has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._by_signal: dict[Child, Callable[[], None]] | None = None

    def watch(self, process: Child, on_exit: Callable[[], None]) -> None:
        """`on_exit` is called after the process was reaped: its returncode is set."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            self._watch_signal(process, on_exit)
            return
        self._loop.add_reader(descriptor, self._ended, descriptor, process, on_exit)

    def close(self) -> None:
        """Stops watching by signal; pidfds end with their processes."""
        if self._by_signal is not None:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._by_signal = None

    def _ended(self, descriptor: int, process: Child, on_exit: Callable[[], None]) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        process.wait()  # has ended: returns at once
        on_exit()

    def _watch_signal(self, process: Child, on_exit: Callable[[], None]) -> None:
        if self._by_signal is None:
            self._by_signal = {}
            self._loop.add_signal_handler(signal.SIGCHLD, self._ask_all)
        self._by_signal[process] = on_exit
        self._loop.call_soon(self._ask_all)  # it may have ended before we watched

    def _ask_all(self) -> None:
        watched = self._by_signal or {}
        ended = [process for process in watched if process.poll() is not None]
        for process in ended:
            watched.pop(process)()
