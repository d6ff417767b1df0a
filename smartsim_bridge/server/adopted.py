"""A child process that the server before us started: the same process, so it is our child.

`subprocess` can only watch what it has started itself.  Knows a pid and how to ask for the
end; pipes and groups are the business of `processes`.
"""

from __future__ import annotations

import os
from typing import Protocol

__all__ = ["Adopted", "Child"]


class Child(Protocol):
    """What a Popen and an adopted child have in common."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The returncode, once it has ended."""

    def wait(self) -> int:
        """The returncode, when it has ended."""


class Adopted:
    """As far as the server needs it, a Popen; `returncode` where it was reaped before."""

    def __init__(self, pid: int, returncode: int | None = None) -> None:
        self.pid = pid
        self.returncode = returncode

    def poll(self) -> int | None:
        """The returncode, negative for a signal; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Returns when it has ended."""
        code = self._reap(0)
        assert code is not None
        return code

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:
                # Reaped by somebody else in this process.  As subprocess has it: nobody knows.
                self.returncode = 0
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
