"""The ways to run a command that are compared, each behind the same three methods.

All give status and both streams of the command, as text.  Each is set up once, as favourably
as we know how, and then called many times.  Where a peer offers more than one way, the
fastest is taken; what that is stands beside it.
"""

from __future__ import annotations

import abc
import contextlib
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .far import EXECNET_LOOP, run_there
from .head import BenchHead

if TYPE_CHECKING:
    from smartsim_bridge import Bridge

__all__ = ["Execnet", "FreshSsh", "Here", "Mitogen", "Peer", "Rung", "all_peers", "open_peers"]

COMMAND = ["true"]
LIMIT = 30.0  # seconds; whatever takes longer hangs
PAUSE = 0.01
WARM_UPS = 3  # the first calls load modules, there and here


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

    def close(self) -> None:  # noqa: B027
        """Leaves nothing behind."""


class Here(Peer):
    """The same call on this machine, without any head: what all are measured by."""

    name = "subprocess.run"

    def call(self) -> None:
        """A child of ours."""
        subprocess.run(COMMAND, capture_output=True, text=True, check=True, timeout=LIMIT)


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
        self.argv = head.sshd.ssh_command(*COMMAND)

    def call(self) -> None:
        """The system's ssh, with the head's own configuration."""
        subprocess.run(self.argv, capture_output=True, text=True, check=True, timeout=LIMIT)


class ControlMaster(Peer):
    """`ssh host true` over an OpenSSH connection that is held open."""

    name = "ssh ControlMaster"

    def open(self, head: BenchHead) -> None:
        """The master, and its socket in the head's directory, which is short."""
        path = head.sshd.directory / "cm"
        options = ["-F", str(head.sshd.ssh_config), "-o", "BatchMode=yes", "-S", str(path)]
        self.argv = ["ssh", *options, head.alias, *COMMAND]
        self.master = subprocess.Popen(
            ["ssh", *options, "-M", "-N", head.alias],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(path, self.master)

    def call(self) -> None:
        """A session of the master's connection."""
        subprocess.run(self.argv, capture_output=True, text=True, check=True, timeout=LIMIT)

    def close(self) -> None:
        """The master is ours to end."""
        self.master.terminate()
        self.master.wait(LIMIT)


class ParamikoExec(Peer):
    """An exec channel of an open paramiko connection; without TCP_NODELAY it takes 40 ms more."""

    name = "paramiko exec"
    needs = "paramiko"

    def open(self, head: BenchHead) -> None:
        """Over a socket of our own, since paramiko sets no TCP_NODELAY."""
        import paramiko

        sshd = head.sshd
        sock = socket.create_connection((sshd.host, sshd.port), timeout=LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = paramiko.SSHClient()
        self.client.load_host_keys(str(sshd.known_hosts))
        self.client.connect(
            sshd.host,
            sshd.port,
            sshd.user.name,
            key_filename=str(sshd.identity),
            sock=sock,
            look_for_keys=False,
            allow_agent=False,
        )

    def call(self) -> None:
        """Both streams to their ends, then the status."""
        _, out, err = self.client.exec_command(" ".join(COMMAND), timeout=LIMIT)
        _check(out.channel.recv_exit_status(), out.read(), err.read())

    def close(self) -> None:
        """And its thread."""
        self.client.close()


class Execnet(Peer):
    """execnet's gateway over ssh; one channel, a loop behind it."""

    name = "execnet"
    needs = "execnet"

    def open(self, head: BenchHead) -> None:
        """A Python over there, and the loop."""
        import execnet

        self.group: Any = execnet.Group()
        gateway = self.group.makegateway(
            f"ssh={head.alias}//ssh_config={head.sshd.ssh_config}//python={head.python}"
        )
        self.channel: Any = gateway.remote_exec(EXECNET_LOOP)

    def call(self) -> None:
        """A word there, three back."""
        self.channel.send(COMMAND)
        _check(*self.channel.receive(timeout=LIMIT))

    def close(self) -> None:
        """The far Python ends with its connection."""
        with contextlib.suppress(OSError, EOFError):
            self.channel.close()
        self.group.terminate(timeout=LIMIT)


class Mitogen(Peer):
    """mitogen's context over ssh; a plain call of a function there."""

    name = "mitogen"
    needs = "mitogen"

    def open(self, head: BenchHead) -> None:
        """A Python over there; it asks for the module of `run_there` once."""
        import mitogen.master

        self.broker: Any = mitogen.master.Broker()
        router: Any = mitogen.master.Router(self.broker)
        self.context: Any = router.ssh(
            hostname=head.alias,
            python_path=head.python,
            ssh_args=["-F", str(head.sshd.ssh_config)],
            connect_timeout=LIMIT,
        )

    def call(self) -> None:
        """A call there, its result back."""
        _check(*self.context.call(run_there, COMMAND))

    def close(self) -> None:
        """The far Python ends with the broker."""
        self.broker.shutdown()
        self.broker.join()


def _check(status: int, out: object, err: object) -> None:
    if status or out or err:
        raise RuntimeError(f"true gave {status}, {out!r}, {err!r}")


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError("the ControlMaster does not start")
        time.sleep(PAUSE)


RUNGS = ("local", "direct", "tunnel", "stdio")


def all_peers() -> list[Peer]:
    """One of each, in the order of the report."""
    rungs = [Rung(name) for name in RUNGS]
    return [Here(), *rungs, Execnet(), Mitogen(), ParamikoExec(), ControlMaster(), FreshSsh()]


def open_peers(
    peers: Sequence[Peer], head: BenchHead, stack: ExitStack
) -> tuple[list[Peer], dict[str, str]]:
    """Those that are ready, until the stack closes them, and why each other one is missing."""
    ready, missing = [], {}
    for peer in peers:
        fault = peer.why_missing() or _open(peer, head, stack)
        if fault:
            missing[peer.name] = fault
        else:
            ready.append(peer)
    return ready, missing


def _open(peer: Peer, head: BenchHead, stack: ExitStack) -> str:
    try:
        peer.open(head)
        stack.callback(peer.close)
        for _ in range(1 if peer.is_fresh else WARM_UPS):
            peer.call()
    except Exception as fault:  # noqa: BLE001 - reported as missing, with its words
        return f"{type(fault).__name__}: {fault}"
    return ""
