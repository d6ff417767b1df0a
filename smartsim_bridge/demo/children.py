"""The processes of the embedded head node: started, reaped and, at the end, ended.

On a real host, init takes over what a session leaves running, such as our command server.
Here the head node itself does, so that "nothing is left" can be promised when it goes:
on Linux it asks to adopt the orphans among its descendants.  Elsewhere they go to init and
only the direct children are known.

One thread waits for all children; nobody else may call `wait` on a process started here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..deadline import Deadline

__all__ = ["Child", "Children", "adopt_orphans"]

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> bool:
    """Makes orphaned descendants children of this process; False where there is no such thing."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


@dataclass
class Child:
    """One process with three pipes; `wait` gives its exit code, negative for a signal."""

    process: subprocess.Popen[bytes]
    _ended: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> int:
        """Blocks until the process has ended; any thread may call it."""
        self._ended.wait()
        return self.process.returncode

    def note_end(self, returncode: int) -> None:
        """Told by the reaper.  Popen is told too, or it would wait for a pid that is gone."""
        self.process.returncode = returncode
        self._ended.set()


class Children:
    """Starts processes and reaps them, orphans that came to us included."""

    def __init__(self) -> None:
        self._running: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._reaped = threading.Condition(self._lock)
        self._started = threading.Event()
        threading.Thread(target=self._reap, name="reaper", daemon=True).start()

    def start(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Child:
        """Starts `argv` in a session of its own, as sshd does; raises OSError."""
        # The lock spans start and registration: the reaper may see the end of a quick
        # process before Popen returns here, and has to find whom to tell.
        with self._lock:
            child = Child(
                subprocess.Popen(
                    argv,
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
            )
            self._running[child.process.pid] = child
        self._started.set()
        return child

    def end_all(self, *, grace: float, patience: float) -> tuple[str, ...]:
        """Ends every process, adopted ones included, and names those that had to be told.

        Who ends by itself within `grace` seconds is not named; who ignores SIGTERM for
        `patience` seconds is killed.
        """
        self._wait_empty(Deadline(grace))
        named = self._signal_until_empty(signal.SIGTERM, Deadline(patience))
        self._signal_until_empty(signal.SIGKILL, Deadline(patience))
        return tuple(named.values())

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self._started.wait()
                self._started.clear()
                continue
            with self._reaped:
                child = self._running.pop(pid, None)
                if child is not None:
                    child.note_end(os.waitstatus_to_exitcode(status))
                self._reaped.notify_all()

    def _wait_empty(self, deadline: Deadline) -> None:
        with self._reaped:
            while self._present() and not deadline.is_over:
                self._reaped.wait(deadline.left)

    def _signal_until_empty(self, number: signal.Signals, deadline: Deadline) -> dict[int, str]:
        """Each process once; the end of one may hand us its children, so look again."""
        told: dict[int, str] = {}
        with self._reaped:
            while present := self._present():
                for pid in present.keys() - told.keys():
                    told[pid] = present[pid]
                    _signal(pid, number)
                # Not before: a busy host may take all the time to look, and nobody was told.
                if deadline.is_over:
                    break
                self._reaped.wait(deadline.left)
        return told

    def _present(self) -> dict[int, str]:
        """Children by pid, with their command lines."""
        known = {pid: _command_line(pid) for pid in self._running}
        return {**_children_in_proc(os.getpid()), **known}


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, number)


def _children_in_proc(parent: int) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may itself hold spaces and parentheses.
            state, ppid = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # ended between the listing and the reading
        if int(ppid) == parent and state != "Z":
            pid = int(entry.parent.name)
            found[pid] = _command_line(pid)
    return found


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    return f"{pid} {b' '.join(words).decode(errors='replace').strip()}".strip()
