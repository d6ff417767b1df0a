"""Signals to this process: as a queue that its main thread waits at, and as its own end.

A handler in Python may run late, once for several signals, and in the middle of anything; so
ours do nothing, and the interpreter's own handler in C puts a byte into a socket for each
signal that comes.  Knows neither commands nor bridges.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

__all__ = ["Bell", "Interrupts", "end_like"]

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

# Whoever waits longer before the next Ctrl-C means a new beginning: at a prompt on the head
# it takes back a line, and must not end the program the second time.
TOGETHER_SECONDS = 10.0

# None of these ends a process, whatever they did on the head, where numbers may differ.
_HARMLESS = ("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGWINCH")


class Bell:
    """Rings for each of `PASSED_ON`, and of `more`, that comes, and for what threads `ring`.

    With the block, in the main thread.  Signals that were ignored before, as nohup and shells
    do for what they put into the background, stay so.
    """

    def __init__(self, *more: str) -> None:
        self._names = (*PASSED_ON, *more)

    def __enter__(self) -> Bell:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        descriptor = self._theirs.fileno()
        self._former = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        self._handlers = {
            one: signal.signal(one, _leave_to_the_bell) for one in _wanted(self._names)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former)
        self._ours.close()
        self._theirs.close()

    def ring(self, number: int) -> None:
        """From any thread, and never waiting; above 127, so as not to look like a signal."""
        with suppress(OSError):  # nobody waits any more
            self._theirs.send(bytes([number]))

    def wait(self, seconds: float | None) -> int | None:
        """The number of a signal, or what another thread rang; None when time is up."""
        self._ours.settimeout(seconds)
        try:
            return self._ours.recv(1)[0]
        except (socket.timeout, BlockingIOError):
            return None


class Interrupts:
    """Counts Ctrl-C, of those that follow each other closely."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = float("-inf")
        self._count = 0

    def another(self) -> int:
        """Which one this is: 1, 2, 3 ..."""
        now = self._clock()
        self._count = self._count + 1 if now - self._last <= TOGETHER_SECONDS else 1
        self._last = now
        return self._count


def end_like(returncode: int) -> int:
    """Ends this process by signal n where `returncode` is -n, else gives the exit status.

    128+n where this system will not have that.  No core is dumped: it would be our own.
    """
    if returncode >= 0:
        return returncode
    number = -returncode
    if os.name == "posix" and number not in _numbers(_HARMLESS):
        _die_by(number)
    return 128 + number


def _die_by(number: int) -> None:
    import resource  # not everywhere

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError, ValueError):  # SIGKILL has no handler, and needs none
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, ValueError):  # no such signal here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        signal.raise_signal(number)


def _numbers(names: Iterable[str]) -> list[int]:
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]


def _wanted(names: Iterable[str]) -> list[int]:
    return [one for one in _numbers(names) if signal.getsignal(one) is not signal.SIG_IGN]


def _leave_to_the_bell(number: int, frame: object) -> None:
    """That there is a handler is what makes the byte."""
