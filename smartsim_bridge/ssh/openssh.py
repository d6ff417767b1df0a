"""The second engine: the system's ssh, for what paramiko cannot do or need not do again.

One login serves everything here too: that of the user's own ControlMaster where one is
live, which is never ended by us, else that of a private master of ours.  The same methods
as `connection.SshConnection`; see `engine` for what they promise.
"""

from __future__ import annotations

import subprocess
import threading
import weakref
from types import TracebackType
from typing import TypeVar

from ..deadline import Deadline
from ..errors import CommandServerError, MasterRequired, SshFailed
from ..stages import Journey
from .ask import Ask
from .engine import OVER_MASTER, Completed
from .openssh_control import Control
from .openssh_forward import OpensshForward
from .openssh_login import login_of, start_master
from .openssh_master import Master
from .openssh_pipe import OpensshPipe, execute
from .openssh_target import OpensshTarget

__all__ = ["OpensshConnection", "live_master"]

U = TypeVar("U", OpensshPipe, OpensshForward)

# The start of a pipe, for callers without a deadline of their own.
PIPE_SECONDS = 30.0

# Of a host that is busy; where the caller sets no limit.
ANSWER_SECONDS = 60.0

# No such service: the host says so without starting a login shell.
_NO_SUBSYSTEM = "smartsim-bridge-are-you-there"


class OpensshConnection:
    """A login that is there.  Its methods may be called from any thread."""

    def __init__(self, target: OpensshTarget, control: Control, master: Master | None) -> None:
        self.target = target
        self._control = control
        self._master = master
        self._lock = threading.Lock()
        self._is_closed = False
        # What goes through the user's master does not end with ours.
        self._uses: weakref.WeakSet[OpensshPipe | OpensshForward] = weakref.WeakSet()
        #: ssh does not tell which ways to log in the host offered.
        self.offered: tuple[str, ...] = ()
        #: How the login was done: "publickey by the system's ssh".
        self.login = (
            OVER_MASTER
            if master is None
            else f"{login_of(master, target.hostname) or 'done'} by the system's ssh"
        )

    @classmethod
    def open(
        cls,
        target: OpensshTarget,
        *,
        ask: Ask | None,
        host_keys: str = "strict",
        only_master: bool = False,
        directory: str,
        deadline: Deadline,
        journey: Journey,
    ) -> OpensshConnection:
        """Takes the user's live master, else logs in once; `only_master`: raises MasterRequired.

        Raises HostUnreachable, HostKeyRefused, LoginFailed or SshFailed, each with host and
        step; nothing stays open then.
        """
        with journey.stage("authenticate") as note:
            try:
                control = live_master(target, deadline)
                master: Master | None = None
                if control is None and only_master:
                    raise _no_master(target)
                if control is None:
                    master = start_master(
                        target,
                        ask=ask,
                        host_keys=host_keys,
                        directory=directory,
                        deadline=deadline,
                        journey=journey,
                    )
                    control = master.control
            except CommandServerError as error:
                note.name = error.step or note.name  # one ssh does all the steps
                error.host = error.host or target.destination
                raise
            except OSError as error:
                raise _cannot_run(error, target.destination, "authenticate") from error
            connection = cls(target, control, master)
            note.detail = connection.login
            return connection

    @property
    def is_alive(self) -> bool:
        """Whether it is open as far as we know; a peer that froze is not noticed."""
        if self._is_closed:
            return False
        return self._control.accepts if self._master is None else self._master.is_alive

    def answers(self, deadline: Deadline) -> bool:
        """Whether the host is still there at the other end, asked of it."""
        if not self.is_alive:
            return False
        try:
            # Its exit status is no news: what counts is that the host said something.
            subprocess.run(
                self._control.command(_NO_SUBSYSTEM, options=("-s",)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self._control.environment,
                timeout=deadline.at_most(ANSWER_SECONDS),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return self.is_alive

    def execute(self, command: str, *, stdin: bytes = b"", deadline: Deadline) -> Completed:
        """Runs a command in the user's login shell, to its end.  Raises SshFailed.

        ssh tells a signal and the exit status 255 alike: both have the status None here.
        """
        self._check_open()
        return execute(self._control, command, stdin, self._host, deadline)

    def open_stdio(self, command: str, *, deadline: Deadline | None = None) -> OpensshPipe:
        """Starts a command, until `deadline`, and offers its standard input and output."""
        limit = (deadline or Deadline(None)).within(PIPE_SECONDS)
        self._check_open()
        return self._used_by(OpensshPipe(self._control, command, self._host, limit))

    def forward(
        self, host: str, port: int, *, directory: str, deadline: Deadline
    ) -> OpensshForward:
        """A local endpoint for `host:port` as the SSH host sees it; see `OpensshForward`."""
        self._check_open()
        try:
            forward = OpensshForward(
                self._control,
                host,
                port,
                # Below that of our master, whose supervisor clears up when we are killed.
                directory=directory if self._master is None else self._master.directory,
                via=self._host,
                noise=self._master.noise if self._master is not None else None,
                deadline=deadline,
            )
        except OSError as error:
            raise _cannot_run(error, self._host, "tunnel") from error
        return self._used_by(forward)

    def close(self) -> None:
        """Ends all that goes through it, and our own master; the user's stays as it is."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            uses = list(self._uses)
        if self._master is not None:
            self._master.close()
        for use in uses:
            use.close()

    def _used_by(self, use: U) -> U:
        with self._lock:
            self._uses.add(use)
            is_late = self._is_closed
        if is_late:  # closed from another thread meanwhile
            use.close()
        return use

    def _check_open(self) -> None:
        if self._is_closed:
            raise SshFailed("the connection was closed", host=self._host, step="execute")

    @property
    def _host(self) -> str:
        return self.target.destination

    def __enter__(self) -> OpensshConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_alive else "closed" if self._is_closed else "broken"
        return f"<OpensshConnection {self._host}, {state}>"


def live_master(target: OpensshTarget, deadline: Deadline) -> Control | None:
    """The user's own master for this target, if one is live now."""
    control = Control(target, target.control_path)
    return control if control.is_live(deadline) else None


def _cannot_run(error: OSError, host: str, step: str) -> SshFailed:
    return SshFailed(f"ssh cannot be run: {error.strerror or error}", host=host, step=step)


def _no_master(target: OpensshTarget) -> MasterRequired:
    return MasterRequired(
        f"there is no live ControlMaster at {target.control_path}",
        host=target.destination,
        step="authenticate",
        advice=f"Log in once with: {target.master_command}",
    )
