"""The embedded head node as the demo and the tests hold it: made, reached, and gone.

    with EmbeddedHeadNode() as head:
        init_command_server(addr=head.addr, ssh_config=head.ssh_config, autostart=True)

Everything it makes lies in one temporary directory that only we may enter: two fresh
keys, known_hosts, an ssh_config that names them, the home directory of its user.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..deadline import Deadline
from ..errors import LaunchFailed
from .head_node import AUTHORIZED_KEY, HOME, HOST_KEY, LEFT, READY, USER

__all__ = ["EmbeddedHeadNode"]

ALIAS = "embedded-head"
START_SECONDS = 60.0  # importing paramiko on a cold, busy machine takes seconds
END_SECONDS = 30.0  # more than the head node grants to what it has to end


class EmbeddedHeadNode:
    """A loopback SSH server in a child process; usable as a context manager.

    `addr` is an alias that only `ssh_config` knows; 127.0.0.1, `ssh_port`, `user` and
    `identity` say the same without it.  `close` removes everything and sets `left`:
    the command lines of processes that sessions had left running.
    """

    addr = ALIAS
    user = USER

    def __init__(self, *, timeout: float = START_SECONDS) -> None:
        self.left: tuple[str, ...] = ()
        self.directory = Path(tempfile.mkdtemp(prefix="smartsim-bridge-demo-"))
        self.home = self.directory / HOME
        self.identity = self.directory / "user_key"
        self.known_hosts = self.directory / "known_hosts"
        self.ssh_config = self.directory / "ssh_config"
        self._log = self.directory / "head_node.log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            host_key = self._make_keys()
            self._process = self._start()
            self.ssh_port = self._wait_ready(Deadline(timeout))
            self._describe(host_key)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> EmbeddedHeadNode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "closed"
        return f"<EmbeddedHeadNode {self.user}@127.0.0.1 {state}>"

    @property
    def is_running(self) -> bool:
        """Whether the child process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the child process."""
        assert self._process is not None
        return self._process.pid

    def shorten(self, text: str) -> str:
        """`text` with the long paths of this head as one would write them."""
        return text.replace(str(self.home), "~").replace(str(self.directory), "DEMO")

    def close(self) -> None:
        """Ends the child and removes the directory; nothing happens the second time."""
        process, self._process = self._process, None
        if process is not None:
            self.left = _end(process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _make_keys(self) -> str:
        for name in (HOME, "tmp"):
            (self.directory / name).mkdir(mode=0o700)
        host_key = _write_key_pair(self.directory / HOST_KEY)
        user_key = _write_key_pair(self.identity)
        (self.directory / AUTHORIZED_KEY).write_text(f"{user_key}\n")
        return host_key

    def _start(self) -> subprocess.Popen[bytes]:
        # The package may be a clone that nobody installed.
        package_root = str(Path(__file__).parents[2])
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "smartsim_bridge.demo.head_node", str(self.directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": package_root},
                bufsize=0,
            )

    def _wait_ready(self, deadline: Deadline) -> int:
        assert self._process is not None and self._process.stdout is not None
        stdout = self._process.stdout
        said = b""
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([stdout], [], [], deadline.left)
            chunk = stdout.read(256) if readable else b""
            if not chunk:
                raise self._failure()
            said += chunk
        word, port = said.decode().split()
        if word != READY:
            raise self._failure()
        return int(port)

    def _failure(self) -> LaunchFailed:
        noise = self._log.read_text(errors="replace")[-2000:]
        return LaunchFailed(
            "The embedded head node did not start", host="127.0.0.1", step="demo", noise=noise
        )

    def _describe(self, host_key: str) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.ssh_port} {host_key}\n")
        self.ssh_config.write_text(
            f"Host {ALIAS}\n"
            "    HostName 127.0.0.1\n"
            f"    Port {self.ssh_port}\n"
            f"    User {USER}\n"
            f'    IdentityFile "{self.identity}"\n'
            "    IdentitiesOnly yes\n"
            f'    UserKnownHostsFile "{self.known_hosts}"\n'
            "    StrictHostKeyChecking yes\n"
        )


def _write_key_pair(path: Path) -> str:
    """Writes an ed25519 key, 0600, and its public half beside it; returns the latter."""
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.touch(mode=0o600)
    path.write_bytes(secret)
    path.with_name(path.name + ".pub").write_bytes(public + b"\n")
    return public.decode()


def _end(process: subprocess.Popen[bytes]) -> tuple[str, ...]:
    """Closing its stdin asks it to end; it says what it had to end, and is insisted on after."""
    try:
        said, _ = process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    lines = said.decode(errors="replace").splitlines()
    return tuple(line[len(LEFT) + 1 :] for line in lines if line.startswith(f"{LEFT} "))
