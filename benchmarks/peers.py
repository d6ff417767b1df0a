"""The ways to run a command that need no other library, each behind the same three methods.

All give status and both streams of the command, as text.  Each is set up once, as favourably
as we know how, and then called many times.  Where a peer offers more than one way, the
fastest is taken; what that is stands beside it.
"""

from __future__ import annotations

import abc
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .head import BenchHead

if TYPE_CHECKING:
    from smartsim_bridge import Bridge, Command

__all__ = ["COMMAND", "LIMIT", "ControlMaster", "FreshSsh", "Here", "Peer", "Rung"]

COMMAND = ["true"]
LIMIT = 30.0  # seconds; whatever takes longer hangs
PAUSE = 0.01


class Peer(abc.ABC):
    """One way; `needs` is the module without which it is missing.

    `is_fresh` says that each call starts from nothing, so a second one at once is no warmer.
    """

    name: str
    needs: str = ""
    is_fresh = False

    def why_missing(self) -> str:
        """Empty where it can take part."""
        return f"{self.needs} is not installed" if self.needs and not find_spec(self.needs) else ""

    def open(self, head: BenchHead) -> None:  # noqa: B027 - most have something to do, not all
        """Connects."""

    @abc.abstractmethod
    def call(self) -> None:
        """Runs `true` and takes status and output; raises where that is not 0."""

    def popen(self, argv: list[str], stdin: int) -> Any:
        """A child with pipes of bytes, as subprocess.Popen's; not every peer has one."""
        raise NotImplementedError(f"{self.name} has no pipes")

    def close(self) -> None:  # noqa: B027
        """Leaves nothing behind."""


class Here(Peer):
    """The same call on this machine, without any head: what all are measured by."""

    name = "subprocess.run"

    def call(self) -> None:
        """A child of ours."""
        subprocess.run(COMMAND, capture_output=True, text=True, check=True, timeout=LIMIT)

    def popen(self, argv: list[str], stdin: int) -> subprocess.Popen[bytes]:
        """The same."""
        return subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE)


class Rung(Peer):
    """`bridge.run` over one rung of the ladder."""

    def __init__(self, transport: str) -> None:
        self.name = f"bridge {transport}"
        self.transport = transport
        self.bridge: Bridge | None = None

    def open(self, head: BenchHead) -> None:
        """A client of the one server."""
        self.bridge = head.bridge(self.transport)

    def call(self) -> None:
        """The main job."""
        assert self.bridge is not None
        self.bridge.run(COMMAND, check=True)

    def popen(self, argv: list[str], stdin: int) -> Command:
        """The head's."""
        assert self.bridge is not None
        return self.bridge.popen(argv, stdin=stdin, text=False)

    def close(self) -> None:
        """The server goes on."""
        if self.bridge is not None:
            self.bridge.close()


class FreshSsh(Peer):
    """`ssh host true`, a new connection each time."""

    name = "fresh ssh"
    is_fresh = True

    def open(self, head: BenchHead) -> None:
        """Nothing is opened ahead."""
        self.ssh = head.sshd.ssh_command

    def call(self) -> None:
        """The system's ssh, with the head's own configuration."""
        argv = self.ssh(*COMMAND)
        subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT)

    def popen(self, argv: list[str], stdin: int) -> subprocess.Popen[bytes]:
        """With ssh's pipes."""
        return subprocess.Popen(self.ssh(*argv), stdin=stdin, stdout=subprocess.PIPE)


class ControlMaster(Peer):
    """`ssh host true` over an OpenSSH connection that is held open."""

    name = "ssh ControlMaster"

    def open(self, head: BenchHead) -> None:
        """The master, and its socket in the head's directory, which is short."""
        path = head.sshd.directory / "cm"
        options = ["-F", str(head.sshd.ssh_config), "-o", "BatchMode=yes", "-S", str(path)]
        self.ssh = ["ssh", *options, head.alias]
        self.master = subprocess.Popen(
            ["ssh", *options, "-M", "-N", head.alias],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(path, self.master)

    def call(self) -> None:
        """A session of the master's connection."""
        argv = [*self.ssh, *COMMAND]
        subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT)

    def popen(self, argv: list[str], stdin: int) -> subprocess.Popen[bytes]:
        """With the pipes of its session."""
        return subprocess.Popen([*self.ssh, *argv], stdin=stdin, stdout=subprocess.PIPE)

    def close(self) -> None:
        """The master is ours to end."""
        self.master.terminate()
        self.master.wait(LIMIT)


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError("the ControlMaster does not start")
        time.sleep(PAUSE)
