"""Heads made of a directory: a home, a PATH of our own, and executables that play Pythons."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from smartsim_bridge.bootstrap.facts import BeaconFound, Facts, PythonFound
from smartsim_bridge.bootstrap.host import LocalHost
from smartsim_bridge.bootstrap.plan import Wish
from smartsim_bridge.bootstrap.script import quote
from smartsim_bridge.bootstrap.shell import Shell
from smartsim_bridge.deadline import Deadline
from smartsim_bridge.protocol.beacon import Beacon, Credentials, beacon_name, credentials_name

NONCE = "n0nce5"

CREDENTIALS = Credentials(server_key="s" * 40, client_key="c" * 40, client_secret="x" * 40)

BEACON = Beacon(
    host="login1",
    boot_id="b00t-1d",
    uid=1000,
    pid=4242,
    pid_start=777,
    version="0.1.0",
    protocol=1,
    socket="/tmp/socket",
    endpoints=("tcp://127.0.0.1:41234",),
    server_key=CREDENTIALS.server_key,
    started=100.0,
)

FACTS = Facts(
    host="login1",
    boot_id="b00t-1d",
    uid=1000,
    user="alice",
    home="/home/alice",
    state_dir="/home/alice/.local/state/smartsim-bridge",
    state_writable=True,
    pythons=(PythonFound("/usr/bin/python3", (3, 11, 2), zmq="27.3.0"),),
)

WISH = Wish(spelled="me@login1", artifact="far.pyz")


def found(beacon: Beacon = BEACON, **changes: object) -> BeaconFound:
    """The file of a live server, as the probe reports it."""
    whole = BeaconFound(
        path=f"{FACTS.state_dir}/servers/{beacon.pid}.json",
        text=beacon.to_json(),
        key_text=CREDENTIALS.to_json(),
        alive=True,
        start=beacon.pid_start,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Head:
    """One home directory, one folder of executables, and this machine's /bin/sh."""

    home: Path
    programs: Path

    @property
    def state(self) -> Path:
        return self.home / ".local/state/smartsim-bridge"

    def host(self, shell: str = "/bin/sh", **environment: str) -> LocalHost:
        own = {"HOME": str(self.home), "PATH": f"{self.programs}:/usr/bin:/bin", "USER": "alice"}
        return LocalHost("me@login1", environment={**own, **environment}, shell=shell)

    def shell(
        self, login_shell: str = "/bin/sh", *, prelude: str = "", **environment: str
    ) -> Shell:
        host = self.host(login_shell, **environment)
        return Shell(host, prelude=prelude, deadline=Deadline(60), nonce=NONCE)

    def add_program(self, name: str, script: str) -> str:
        """An executable on this head's PATH; `script` is POSIX sh."""
        return str(write_program(self.programs / name, script))

    def add_python(self, name: str, version: str, zmq: str = "", why: str = "") -> str:
        """An executable that answers the probe's question as that Python would."""
        status = 4 if version < "3.9" and len(version.split(".")[1]) == 1 else 0 if zmq else 3
        said = quote(f"PYTHON|{version}|{zmq}|{why}")
        return self.add_program(name, f"echo {said}\nexit {status}")

    def add_server(self, beacon: Beacon, credentials: Credentials | None = CREDENTIALS) -> Path:
        """The files of a server, as it leaves them."""
        servers = self.state / "servers"
        servers.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = servers / beacon_name(beacon.host, beacon.boot_id)
        path.write_text(beacon.to_json() + "\n")
        if credentials is not None:
            keys = servers / credentials_name(beacon.host, beacon.boot_id)
            keys.write_text(credentials.to_json() + "\n")
        return path


def write_program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat, counted independently of the probe."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def beacon_of_process(pid: int) -> Beacon:
    """What a server with this pid would say of itself on this machine."""
    return replace(
        BEACON,
        host=os.uname().nodename,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        uid=os.getuid(),
        pid=pid,
        pid_start=start_ticks(pid),
    )


@functools.cache
def pythons() -> dict[str, str]:
    """Version and path of each CPython that is here, this one included."""
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(20))]
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True)
        candidates += map(str, Path(root.stdout.strip()).glob("versions/*/bin/python"))
    found: dict[str, str] = {}
    for path in filter(None, candidates):
        asked = [path, "-c", "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        if said.returncode == 0:
            found.setdefault(said.stdout, path)
    return found


def modern_pythons() -> list[str]:
    """Those that a server can run on."""
    return [path for version, path in sorted(pythons().items()) if _parts(version) >= (3, 9)]


def old_pythons() -> list[str]:
    """Those that it cannot run on."""
    return [path for version, path in sorted(pythons().items()) if _parts(version) < (3, 9)]


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
