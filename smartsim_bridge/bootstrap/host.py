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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from ..deadline import Deadline
from ..errors import BootstrapFailed

__all__ = ["Answer", "Host", "LocalAnswer", "LocalHost", "LocalTarget", "Target"]


class Target(Protocol):
    """Whom we talk to: as the user spells it, and as it was resolved."""

    @property
    def spelled(self) -> str:
        """As the user wrote it; what messages show."""

    @property
    def hostname(self) -> str:
        """The name or address that was resolved."""

    @property
    def user(self) -> str:
        """The account there."""


class Answer(Protocol):
    """What came of one command; `status` is None where the host did not say."""

    @property
    def status(self) -> int | None:
        """Exit status; None where the channel closed without one."""

    @property
    def stdout(self) -> bytes:
        """All of standard output."""

    @property
    def stderr(self) -> bytes:
        """All of standard error."""


class Host(Protocol):
    """One command at a time, through the user's login shell."""

    @property
    def target(self) -> Target:
        """The host this leads to."""

    def execute(self, command: str, *, stdin: bytes = b"", deadline: Deadline) -> Answer:
        """Runs `command` to its end.  Raises a CommandServerError where that is not possible."""


@dataclass(frozen=True)
class LocalTarget:
    """This machine, as a target."""

    spelled: str
    hostname: str
    user: str


@dataclass(frozen=True)
class LocalAnswer:
    """What a child process left."""

    status: int | None
    stdout: bytes
    stderr: bytes


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

    def execute(self, command: str, *, stdin: bytes = b"", deadline: Deadline) -> LocalAnswer:
        """Raises BootstrapFailed when the deadline passes; the command's session is ended then."""
        with subprocess.Popen(
            [self._shell, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            cwd=self._directory(),
            start_new_session=True,
        ) as process:
            limit = None if deadline.left == float("inf") else deadline.left
            try:
                stdout, stderr = process.communicate(stdin, timeout=limit)
            except subprocess.TimeoutExpired:
                self._end(process)
                raise self._too_late(command, deadline) from None
            except BaseException:
                self._end(process)
                raise
        return LocalAnswer(process.returncode, stdout, stderr)

    def _directory(self) -> str:
        """Where sshd would start a command: the home, if it is there."""
        home = self._environment.get("HOME", "/")
        return home if os.path.isdir(home) else "/"

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """The whole group: a hanging `module load` is a grandchild that holds the pipes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _too_late(self, command: str, deadline: Deadline) -> BootstrapFailed:
        return BootstrapFailed(
            f"{command} did not end within the {deadline.seconds:g} s that were allowed",
            host=self.target.spelled,
            advice="Raise timeout=; a start-up file or prelude may hang.",
        )

    def __repr__(self) -> str:
        return f"LocalHost({self.target.spelled!r})"
