"""A program run as our child, on the same terminal, whose end is then ours.

What `smartsim-bridge shell` does.  The child stays in our process group, so that the terminal
treats us as one job: Ctrl-C and Ctrl-\\ reach the child and its own children without us, once.
What reaches us alone we pass on.  Blocking; the main thread only; knows no bridge.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from .signals import Bell

__all__ = ["run_child"]

# By these a terminal stops a job; whoever sends SIGSTOP means one process.
_TERMINAL_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def run_child(words: Sequence[str]) -> int:
    """Its returncode, negative for a signal.  Raises OSError where it cannot be started."""
    # Whoever started us may have ignored it: then the kernel would keep no exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Bell("SIGCHLD", "SIGTSTP") as bell, subprocess.Popen(words) as process:
        return _Watch(process, bell).until_its_end()


class _Watch:
    def __init__(self, process: subprocess.Popen[bytes], bell: Bell) -> None:
        self._process = process
        self._pid = process.pid
        self._bell = bell

    def until_its_end(self) -> int:
        while True:
            number = self._bell.wait(None)
            if number == signal.SIGCHLD:
                returncode = self._look()
                if returncode is not None:
                    return returncode
            elif number is not None and not self._is_the_terminals(number):
                self._pass_on(number)

    def _is_the_terminals(self, number: int) -> bool:
        """Whether the child has been told as well, by the same key."""
        if number == signal.SIGTSTP:
            return True  # we stop when it has stopped, not before: it may need us until then
        return number in (signal.SIGINT, signal.SIGQUIT) and _foreground() == os.getpgrp()

    def _pass_on(self, number: int) -> None:
        # Not through Popen, which would look first whether it runs, and take its end away.
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _look(self) -> int | None:
        """Its returncode, once it has ended."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return None
            if not os.WIFSTOPPED(status):
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return self._process.returncode
            self._stop_like(os.WSTOPSIG(status))

    def _stop_like(self, number: int) -> None:
        """Stops the whole job, where the child was stopped as a job is."""
        # A shell that suspends itself stops the process group that it has made for itself.
        group = os.getpgid(self._pid)
        is_shell = group != os.getpgrp()
        if number not in _TERMINAL_STOPS and not is_shell:
            return
        os.kill(os.getpid(), signal.SIGSTOP)
        # Continued.  Whoever did it knows our process group only.
        if is_shell and _foreground() == os.getpgrp():
            _give_terminal_to(group)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


def _foreground() -> int | None:
    """The process group that the controlling terminal listens to."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None
    try:
        return os.tcgetpgrp(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _give_terminal_to(group: int) -> None:
    descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        os.tcsetpgrp(descriptor, group)
    finally:
        os.close(descriptor)
