"""The socket of a live ControlMaster, the user's or ours: how it is spoken to.

What goes through it is called with no configuration at all, so that no LocalForward or
RemoteCommand of the user's disturbs, and with a ProxyCommand that fails: a master that
refuses a session must not lead to another login behind the user's back.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess

from ..deadline import Deadline
from .openssh_target import OpensshTarget, as_control_path, client_environment

__all__ = ["Control"]

# Of one request to a local process.
CONTROL_SECONDS = 5.0


class Control:
    """The socket of a live master."""

    def __init__(self, target: OpensshTarget, path: str) -> None:
        self.path = path
        #: Whether others of the user's may share it, whose sessions are not ours to end.
        self.is_users = path == target.control_path
        self._host = target.alias
        self._program = target.program

    def command(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        """An ssh that goes through the master, or nowhere."""
        quiet = ("ControlMaster=no", "BatchMode=yes", "ProxyCommand=false")
        settings = [word for setting in quiet for word in ("-o", setting)]
        head = [
            self._program,
            "-F",
            "/dev/null",
            "-S",
            as_control_path(self.path),
            *settings,
            "-T",
            *options,
        ]
        return [*head, "--", self._host, *words]

    @property
    def environment(self) -> dict[str, str]:
        """A shell that is quick for that ProxyCommand, whatever the user's own is."""
        return {**client_environment(), "SHELL": "/bin/sh"}

    def ask(
        self, request: str, *options: str, deadline: Deadline
    ) -> subprocess.CompletedProcess[str] | None:
        """`ssh -O request`; None where it did not end in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                self.command(options=("-O", request, *options)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=self.environment,
                timeout=deadline.at_most(CONTROL_SECONDS),
                check=False,
            )
        return None

    def is_live(self, deadline: Deadline) -> bool:
        """Whether a master of this user listens there."""
        try:
            # A link of somebody else's could lead to a master of ours for another host.
            owners = {os.lstat(self.path).st_uid, os.stat(self.path).st_uid}
            is_socket = stat.S_ISSOCK(os.stat(self.path).st_mode)
        except OSError:
            return False
        if not is_socket or owners != {os.getuid()}:
            return False
        done = self.ask("check", deadline=deadline)
        return done is not None and done.returncode == 0

    @property
    def accepts(self) -> bool:
        """Whether somebody listens, without asking who: cheap, and says nothing of the host."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONTROL_SECONDS)
            try:
                probe.connect(self.path)
            except OSError:
                return False
        return True
