"""Real servers, as the bootstrap starts them: `python -m smartsim_bridge.server serve`."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Optional

from smartsim_bridge.errors import UnsafeDirectory
from smartsim_bridge.protocol.beacon import Beacon, Credentials, find_ready_line
from smartsim_bridge.server.beacon_file import process_start
from smartsim_bridge.server.places import choose_places
from tests.support.waiting import wait_until

__all__ = ["Fleet", "is_running"]

START_SECONDS = 60.0  # for a starter to say what it found or made

Found = tuple[Beacon, Optional[Credentials]]


def is_running(beacon: Beacon) -> bool:
    """Whether the server's process is there, and is no zombie."""
    with suppress(OSError):
        stat = Path(f"/proc/{beacon.pid}/stat").read_text(encoding="utf-8")
        is_zombie = stat.rpartition(")")[2].split()[0] == "Z"
        return process_start(beacon.pid) == beacon.pid_start and not is_zombie
    return False


class Fleet:
    """Servers with one state directory; those that still run end with the test."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environ: dict[str, str] = {"PATH": "/usr/bin:/bin", "HOME": str(state.parent)}
        self._beacons: set[Beacon] = set()

    def command(self, *options: str) -> list[str]:
        words = ("-m", "smartsim_bridge.server", "serve", "--state-dir", str(self.state))
        return [sys.executable, *words, *options]

    def launch(self, *options: str, **popen: object) -> tuple[subprocess.Popen[str], str]:
        """Starts a starter; the second value is the nonce of its ready line."""
        nonce = secrets.token_hex(8)
        process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            [*self.command("--detach", "--nonce", nonce), *options],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        return process, nonce

    def finish(self, process: subprocess.Popen[str], nonce: str) -> Found:
        """What the starter found or made; fails with what it said."""
        out, err = process.communicate(timeout=START_SECONDS)
        assert (process.returncode, err) == (0, "")
        found = find_ready_line(out, nonce)
        assert found is not None, out
        self._beacons.add(found[0])
        return found

    def adopt(self, beacon: Beacon) -> None:
        """This one, too, ends with the test."""
        self._beacons.add(beacon)

    def start(self, *options: str, **popen: object) -> Found:
        """A detached server that is ready."""
        return self.finish(*self.launch(*options, **popen))

    def refuse(self, *options: str) -> str:
        """What a start says that must fail."""
        process, _ = self.launch(*options)
        out, err = process.communicate(timeout=START_SECONDS)
        assert (process.returncode, out) == (1, "")
        assert "Traceback" not in err
        return err

    def stop(self, beacon: Beacon, number: int = signal.SIGTERM) -> None:
        os.kill(beacon.pid, number)
        wait_until(lambda: not is_running(beacon))

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.state / "servers").iterdir())

    def close(self) -> None:
        for beacon in self._beacons:
            if is_running(beacon):
                self.stop(beacon, signal.SIGKILL)
        with suppress(UnsafeDirectory, OSError):
            places = choose_places(self.environ, str(self.state))
            for path in (places.lock, places.socket):
                Path(path).unlink(missing_ok=True)
