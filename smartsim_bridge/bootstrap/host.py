"""What the bootstrap needs of a host, and this very machine as one.

The SSH connection fills `Host` without knowing of it.  `LocalHost` fills it with a child
process, for a head that is the machine we are on; the tests use it the same way.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from ..deadline import Deadline

__all__ = ["Host", "LocalHost", "LocalPipe", "LocalTarget", "Pipe", "Target"]

# Kept of what a local command complains.
NOISE_LIMIT = 16384
# Granted to a shell that saw its input end, before it is ended by force.
END_SECONDS = 1.0


class Target(Protocol):
    """Whom we talk to."""

    @property
    def spelled(self) -> str:
        """As the user wrote it; what messages show."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the user and his ssh_config call it; none where it is this machine."""


class Pipe(Protocol):
    """A running command whose standard input and output are a socket."""

    @property
    def socket(self) -> socket.socket:
        """Both directions; at its end when the command has ended."""

    @property
    def noise(self) -> str:
        """What it said on standard error so far, up to a limit."""

    @property
    def status(self) -> int | None:
        """The exit status, where it has ended and the host said how."""

    def close(self) -> None:
        """Ends its input, and lets go of it."""


class Host(Protocol):
    """Runs a command through the user's login shell."""

    @property
    def target(self) -> Target:
        """The host this leads to."""

    def open_stdio(self, command: str, *, deadline: Deadline | None = None) -> Pipe:
        """Starts `command`, until `deadline`.  Raises a CommandServerError where it cannot."""


@dataclass(frozen=True)
class LocalTarget:
    """This machine, as a target."""

    spelled: str
    hostname: str
    user: str
    names: tuple[str, ...] = ()


class LocalHost:
    """This machine as a host: commands run below /bin/sh, as the user we already are.

    `home` and `environment` replace those of this process, `shell` the login shell.
    """

    def __init__(
        self,
        spelled: str = "localhost",
        *,
        home: str | None = None,
        environment: Mapping[str, str] | None = None,
        shell: str = "/bin/sh",
    ) -> None:
        self.target = LocalTarget(spelled, socket.gethostname(), getpass.getuser())
        self._environment = dict(os.environ if environment is None else environment)
        if home is not None:
            self._environment["HOME"] = home
        self._shell = shell

    def open_stdio(self, command: str, *, deadline: Deadline | None = None) -> LocalPipe:
        """Starts `command` in a session of its own, in the home directory."""
        return LocalPipe([self._shell, "-c", command], self._environment)

    def __repr__(self) -> str:
        return f"LocalHost({self.target.spelled!r})"


class LocalPipe:
    """A child process; see `Pipe`."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.socket, theirs = socket.socketpair()
        # A file, not a pipe: nobody has to read it for the command to get on.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        home = environment.get("HOME", "/")
        with theirs:
            self._process = subprocess.Popen(
                arguments,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._complaints,
                env=dict(environment),
                cwd=home if os.path.isdir(home) else "/",
                start_new_session=True,
            )

    @property
    def noise(self) -> str:
        """What it said on standard error so far, up to a limit."""
        return os.pread(self._complaints.fileno(), NOISE_LIMIT, 0).decode("utf-8", "replace")

    @property
    def status(self) -> int | None:
        """The exit status; a moment's grace to one whose output has just ended."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_SECONDS)
        return None

    def close(self) -> None:
        """Ends the input, and a moment later whatever of the command's group is left."""
        if self._complaints.closed:
            return
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        # A hanging `module load` is a grandchild; a server has left the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._complaints.close()
