"""One operating-system process, its group and its three pipes, in the event loop.

The process leads a session and group of its own, so that a signal reaches everything it
started.  Reading stops where the owner has no room, which the process feels as a full
pipe; writing waits where the process does not read.  Knows bytes and signals; offsets,
messages and clients are the business of `commands`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from ..protocol.messages import NULL, PIPE, STDERR, STDOUT, TO_STDOUT
from .adopted import Adopted, Child
from .exits import ExitWatch
from .handover import Carry

__all__ = ["Owner", "Process", "ended"]

READ_SIZE = 64 * 1024  # what a Linux pipe holds

# A process group that was killed can still have left a child in another session that holds
# a pipe open; nobody waits for it longer than this many seconds.
HELD_PIPES_SECONDS = 1.0

_SPEC = {PIPE: subprocess.PIPE, NULL: subprocess.DEVNULL, TO_STDOUT: subprocess.STDOUT}


class Owner(Protocol):
    """Who is told what the process does."""

    def room(self, stream: int) -> int:
        """How many bytes of stdout (1) or stderr (2) can be taken now."""

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        """Bytes that it wrote."""

    def input_written(self, count: int, broken: bool) -> None:
        """`count` more bytes are in its stdin; `broken`: it closed it."""

    def exited(self) -> None:
        """It ended: `returncode` is set; output may still follow."""

    def drained(self) -> None:
        """It ended and so did its output: nothing more comes."""


class Process:
    """A running process; the constructor starts it and raises what Popen raises.

    `program` is the file to run where that is not what argv[0] means.
    """

    def __init__(
        self,
        argv: Sequence[str],
        owner: Owner,
        watch: ExitWatch,
        *,
        cwd: str | None,
        environment: Mapping[bytes, bytes],
        stdin: str,
        stdout: str,
        stderr: str,
        descriptor_limit: tuple[int, int] | None = None,
        program: str = "",
    ) -> None:
        popen = subprocess.Popen(
            argv,
            executable=program or None,
            stdin=_SPEC[stdin],
            stdout=_SPEC[stdout],
            stderr=_SPEC[stderr],
            cwd=cwd,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        _restore_limit(popen.pid, descriptor_limit)
        self._begin(popen, owner)
        self._open(STDOUT, popen.stdout)
        self._open(STDERR, popen.stderr)
        # Ours alone from now on: Popen would keep it open.
        self._stdin = popen.stdin
        popen.stdin = None
        if self._stdin is not None:
            os.set_blocking(self._stdin.fileno(), False)
        watch.watch(popen, self._exited)

    def _begin(self, child: Child, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._child = child
        self._outputs: dict[int, IO[bytes]] = {}
        self._paused: set[int] = set()
        self._input: deque[bytes] = deque()
        self._input_ended = False
        self._has_exited = False
        self._told = False
        self._is_killed = False

    def hand_over(self, carry: Carry) -> dict[str, Any]:
        """All there is to know of it, for the program that this process becomes."""
        return {
            "pid": self.pid,
            "returncode": self.returncode,
            "has_exited": self._has_exited,
            "told": self._told,
            "is_killed": self._is_killed,
            "stdin": None if self._stdin is None else carry(self._stdin.fileno()),
            "outputs": [[stream, carry(pipe.fileno())] for stream, pipe in self._outputs.items()],
            "input": list(self._input),
            "input_ended": self._input_ended,
        }

    @classmethod
    def take_over(cls, past: dict[str, Any], owner: Owner, watch: ExitWatch) -> Process:
        """The process that another program has started; nothing is told before the loop runs."""
        self = cls.__new__(cls)
        self._begin(Adopted(past["pid"], past["returncode"]), owner)
        self._has_exited, self._told = past["has_exited"], past["told"]
        self._input.extend(past["input"])
        self._input_ended = past["input_ended"]
        for stream, descriptor in past["outputs"]:
            self._open(stream, _inherited(descriptor, "rb"))
        stdin = past["stdin"]
        self._stdin = None if stdin is None else _inherited(stdin, "wb")
        if self._stdin is not None and self._input:
            self._loop.add_writer(self._stdin.fileno(), self._writable)
        if not self._has_exited:
            watch.watch(self._child, self._exited)
        if past["is_killed"]:
            self._abandon_later()
        return self

    @property
    def pid(self) -> int:
        """The process id, which is the group's as well."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """As in subprocess: negative for a signal, None while it runs."""
        return self._child.returncode

    @property
    def is_over(self) -> bool:
        """Whether it ended and its output did too."""
        return self._has_exited and not self._outputs

    # --- output

    def resume(self, stream: int) -> None:
        """The owner has room again."""
        if stream in self._paused:
            self._paused.discard(stream)
            self._loop.add_reader(self._outputs[stream].fileno(), self._readable, stream)

    def close_output(self, stream: int) -> None:
        """Reads it no more; whoever still writes to it gets SIGPIPE."""
        if stream in self._outputs:
            self._end_output(stream)
            self._settle()

    def _open(self, stream: int, pipe: IO[bytes] | None) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._outputs[stream] = pipe
            self._loop.add_reader(pipe.fileno(), self._readable, stream)

    def _readable(self, stream: int) -> None:
        pipe = self._outputs[stream]
        room = self._owner.room(stream)
        if room <= 0:
            self._loop.remove_reader(pipe.fileno())
            self._paused.add(stream)
            return
        try:
            data = os.read(pipe.fileno(), min(room, READ_SIZE))
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a broken pipe has no more to give than a closed one
        if data:
            self._owner.output(stream, data, False)
        else:
            self._end_output(stream)
            self._settle()

    def _end_output(self, stream: int) -> None:
        pipe = self._outputs.pop(stream)
        if stream in self._paused:
            self._paused.discard(stream)
        else:
            self._loop.remove_reader(pipe.fileno())
        pipe.close()
        self._owner.output(stream, b"", True)

    # --- input

    def write(self, data: bytes) -> None:
        """Bytes for its stdin, written as soon as it reads them."""
        stdin = self._stdin
        if stdin is None or self._input_ended:
            self._owner.input_written(len(data), True)
            return
        self._input.append(data)
        if len(self._input) == 1:
            self._writable()

    def end_input(self) -> None:
        """Closes its stdin after what was written."""
        self._input_ended = True
        if not self._input:
            self._close_input()

    def _writable(self) -> None:
        stdin = self._stdin
        while self._input and stdin is not None:
            try:
                count = os.write(stdin.fileno(), self._input[0])
            except BlockingIOError:
                self._loop.add_writer(stdin.fileno(), self._writable)
                return
            except OSError:
                self._break_input()
                return
            rest = self._input[0][count:]
            self._input[0] = rest
            if not rest:
                self._input.popleft()
            self._owner.input_written(count, False)
        if stdin is not None:
            self._loop.remove_writer(stdin.fileno())
        if self._input_ended:
            self._close_input()

    def _break_input(self) -> None:
        lost = sum(map(len, self._input))
        self._close_input()
        self._owner.input_written(lost, True)

    def _close_input(self) -> None:
        stdin, self._stdin = self._stdin, None
        self._input.clear()
        if stdin is not None:
            self._loop.remove_writer(stdin.fileno())
            stdin.close()

    # --- the end

    def signal_group(self, number: int) -> None:
        """Sends a signal to the whole group; nothing where it is over."""
        # Once reaped, and with its pipes closed, the number may belong to a stranger.
        if not self.is_over:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # it ended just now, or (macOS) only zombies are left

    def kill(self) -> None:
        """SIGKILL to the group, and the end of its pipes even where somebody holds them."""
        self.signal_group(signal.SIGKILL)
        self._abandon_later()

    def _abandon_later(self) -> None:
        self._is_killed = True
        self._loop.call_later(HELD_PIPES_SECONDS, self.abandon)

    def abandon(self) -> None:
        """Closes all pipes at our end."""
        if self._input:
            self._break_input()
        self._close_input()
        for stream in list(self._outputs):
            self._end_output(stream)
        self._settle()

    def _exited(self) -> None:
        # What it wrote before it ended is in the pipes by now; taken first, the exit can
        # usually be told as final, in one message.
        for stream in list(self._outputs):
            if stream not in self._paused:
                self._readable(stream)
                if stream in self._outputs and stream not in self._paused:
                    self._readable(stream)
        self._has_exited = True
        if self._outputs:
            self._owner.exited()
        self._settle()

    def _settle(self) -> None:
        if self.is_over and not self._told:
            self._told = True
            self._close_input()
            self._owner.drained()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode {self.returncode}"
        return f"<Process {self.pid}: {state}>"


def ended(pid: int, returncode: int | None) -> dict[str, Any]:
    """What is handed over of a process that is over."""
    return {
        "pid": pid,
        "returncode": returncode,
        "has_exited": True,
        "told": True,
        "is_killed": False,
        "stdin": None,
        "outputs": [],
        "input": [],
        "input_ended": False,
    }


def _inherited(descriptor: int, mode: str) -> IO[bytes]:
    os.set_inheritable(descriptor, False)
    return open(descriptor, mode, buffering=0)


def _restore_limit(pid: int, limit: tuple[int, int] | None) -> None:
    """Gives the command the usual limit of open files, not the server's raised one."""
    if limit is not None and hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        except OSError:
            pass  # it ended already
