"""The head node of a run: a real sshd on loopback, with a home directory of its own.

The head user is whoever runs the benchmarks and the home is shared with the near side, as
a compute node shares it with its head: so every rung leads to the same server, and the
direct one finds its beacon.  All peers get the same Python on the far side, the one that
runs here.  Everything ends and goes away with it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.client.beacons import Sighting, sightings
from smartsim_bridge.protocol.beacon import state_directory
from tests.support.sshd import ALIAS, Sshd
from tests.support.users import us

__all__ = ["BenchHead", "open_head"]

# What would lead to servers of whoever runs this, or change where ours leave their things.
FORGOTTEN = ("SMARTSIM_", "XDG_CONFIG", "XDG_STATE", "XDG_DATA", "XDG_CACHE", "SLURM_", "PYTHON")

STATE_DIR = "SMARTSIM_BRIDGE_STATE_DIR"

CONNECT_SECONDS = 30.0
END_SECONDS = 10.0
PAUSE = 0.005  # seconds between two looks at a process that ends


class BenchHead:
    """A head that peers connect to; `open_head` makes it."""

    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd
        self.alias = ALIAS
        self.python = sys.executable
        self.state_dir = ""  # where beacons are looked for; "": in the home

    def keywords(self, transport: str, *, autostart: bool = False) -> dict[str, Any]:
        """What `init_command_server` needs for one rung."""
        wish = {"transport": transport, "autostart": autostart, "timeout": CONNECT_SECONDS}
        if transport in ("local", "direct"):
            return {"addr": self.sshd.host, **wish}
        config = str(self.sshd.ssh_config)
        return {"addr": self.alias, "ssh_config": config, "python": self.python, **wish}

    def bridge(self, transport: str, **more: Any) -> Bridge:
        """A bridge over that rung, to the server; started if there is none."""
        self.ensure_server()
        if self.state_dir and transport == "direct":
            os.environ[STATE_DIR] = self.state_dir
        try:
            return init_command_server(**self.keywords(transport), **more)
        finally:
            os.environ.pop(STATE_DIR, None)

    # --- the server

    def ensure_server(self) -> None:
        """Starts a server if there is none."""
        if not self._servers():
            init_command_server(**self.keywords("tunnel", autostart=True)).close()

    def end_server(self) -> None:
        """Ends it, and waits until it is gone; the far half stays."""
        for found in self._servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.beacon.pid, signal.SIGTERM)
            _wait_for_end(found)

    def forget(self) -> None:
        """Makes it a head where nothing ever ran."""
        self.end_server()
        for entry in self.sshd.home.iterdir():
            shutil.rmtree(entry)

    def memory(self, what: str = "VmRSS") -> float:
        """The server's resident memory in MB, now or at its highest (VmHWM)."""
        (found,) = self._servers()
        status = Path(f"/proc/{found.beacon.pid}/status").read_text("ascii", "replace")
        (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1]) / 1024

    @property
    def server_port(self) -> int:
        """Where the server listens."""
        (found,) = self._servers()
        return found.beacon.ports[0]

    def seen_at(self, ssh_port: int, server_port: int) -> BenchHead:
        """The same one, where something at these ports of this host leads to it."""
        other = copy.copy(self)
        other.sshd = self.sshd.seen_at(ssh_port)
        other.state_dir = str(other.sshd.near_home / "state")
        shutil.copytree(state_directory(str(self.sshd.home)), other.state_dir)
        for beacon in Path(other.state_dir, "servers").glob("*.json"):
            text = beacon.read_text("utf-8")
            beacon.write_text(text.replace(f":{self.server_port}", f":{server_port}"), "utf-8")
        return other

    def _servers(self) -> list[Sighting]:
        found = sightings(state_directory(str(self.sshd.home)))
        return [one for one in found if one.is_alive_here]


@contextlib.contextmanager
def open_head() -> Iterator[BenchHead]:
    """A head, its sshd running and its home empty; afterwards nothing of it is left."""
    before = dict(os.environ)
    # Whoever searches for a Python on the head finds ours among the others.
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    with Sshd(us(), ["Subsystem sftp internal-sftp"], environment={"PATH": path}) as sshd:
        head = BenchHead(sshd)
        try:
            for name in before:
                if name.startswith(FORGOTTEN):
                    del os.environ[name]
            os.environ["HOME"] = str(sshd.home)
            yield head
        finally:
            head.end_server()
            os.environ.clear()
            os.environ.update(before)


def _wait_for_end(server: Sighting) -> None:
    end = time.monotonic() + END_SECONDS
    while server.is_alive_here:
        if time.monotonic() > end:
            os.kill(server.beacon.pid, signal.SIGKILL)
            raise TimeoutError(f"the server did not end in {END_SECONDS:g} s")
        time.sleep(PAUSE)
