"""Heads for end-to-end tests: a real sshd, a Python there, and the near side beside it.

    head = make_head()                       with pyzmq: the tunnel
    head = make_head(zmq=False)              without: stdio
    head = make_head("AllowTcpForwarding no")
    bridge = head.init(autostart=True)

Whatever a test starts on a head ends with it: the servers by the pid in their beacons.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from smartsim_bridge import Bridge, CommandServerError, init_command_server
from smartsim_bridge.protocol.beacon import Beacon

from .head_python import HeadPython, find_python, install_zmq
from .sshd import HOST_KEY_TYPES, Sshd
from .users import User, is_root, user_of_nobody_else
from .waiting import wait_until

__all__ = [
    "NODE_ROOTS",
    "Head",
    "MakeHead",
    "has_shims",
    "head_python",
    "is_running",
    "lonely_user",
    "make_head",
    "move_in",
    "near_home",
    "processes_with",
    "servers_in",
    "stop_servers",
    "zmq_directory",
]

END_SECONDS = 60.0

# Where a server puts what must not cross hosts; the first that is safe.
NODE_ROOTS = ("/tmp", "/var/tmp", "/dev/shm")

# What would tell a client of servers of whoever runs the tests.
FORGOTTEN = ("SMARTSIM_BRIDGE_", "SMARTSIM_REMOTE", "XDG_", "SLURM_")


class MakeHead(Protocol):
    def __call__(
        self,
        *config: str,
        zmq: bool = True,
        python: HeadPython | None = None,
        user: User | None = None,
        environment: Mapping[str, str] | None = None,
        host_key_types: Sequence[str] = HOST_KEY_TYPES,
    ) -> Head: ...


@dataclass
class Head:
    """A host that runs commands, and how to get there."""

    sshd: Sshd
    python: str
    bridges: list[Bridge] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        """The server's state directory, as nobody chose another."""
        return self.sshd.home / ".local/state/smartsim-bridge"

    @property
    def keywords(self) -> dict[str, Any]:
        """What `init_command_server` needs to get there."""
        return {
            "addr": "head",
            "ssh_config": str(self.sshd.ssh_config),
            "python": self.python,
            "timeout": 60.0,
        }

    def init(self, **keywords: Any) -> Bridge:
        """A bridge that is closed with the test."""
        bridge = init_command_server(**{**self.keywords, **keywords})
        self.bridges.append(bridge)
        return bridge

    def server_pids(self) -> list[int]:
        """Every server process of this head, whatever beacons say, wherever its state is."""
        return [pid for pid in processes_with("serve") if _home_of(pid) == str(self.sshd.home)]

    def beacon(self) -> Beacon:
        """The one beacon there is."""
        (found,) = servers_in(self.state_dir)
        return found

    def close(self) -> None:
        for bridge in self.bridges:
            with contextlib.suppress(CommandServerError):
                bridge.close()
        _end(self.server_pids())


def servers_in(state_dir: Path) -> list[Beacon]:
    """What the servers with this state directory left."""
    return [
        Beacon.from_json(path.read_text("utf-8"))
        for path in sorted((state_dir / "servers").glob("*.json"))
    ]


def stop_servers(state_dir: Path) -> None:
    """Ends the servers with this state directory, by pid, and waits until they are gone."""
    _end(processes_with("serve", str(state_dir)))


def _end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            wait_until(lambda pid=pid: not is_running(pid), seconds=END_SECONDS)  # type: ignore[misc]
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            raise


def _home_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if line.startswith(b"HOME="):
                return os.fsdecode(line[len("HOME=") :])
    return ""


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than an entry that nobody has asked for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def processes_with(*words: str) -> list[int]:
    """Pids of processes that have all these arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if all(word in arguments for word in words) and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def head_python(head_user: User) -> HeadPython:
    """A Python of 3.9 or newer that the head user can run."""
    found = find_python(head_user)
    if found is None:
        pytest.skip(f"{head_user.name} can run no Python of 3.9 or newer here")
    return found


@pytest.fixture(scope="session")
def zmq_directory(head_python: HeadPython) -> Iterator[str]:
    """What PYTHONPATH must hold on the head for pyzmq; empty where nothing is needed."""
    if head_python.has_zmq:
        yield ""
        return
    directory = Path(tempfile.mkdtemp(prefix="ssb-zmq-"))
    try:
        install_zmq(head_python, directory)
        yield str(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def move_in(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Makes `home` the near side's: no beacon, no configuration, no known host, no bridge."""
    monkeypatch.setattr("smartsim_bridge.current._current", None)
    for name in list(os.environ):
        if name.startswith(FORGOTTEN):
            monkeypatch.delenv(name)
    home.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def has_shims() -> bool:
    """Whether bridges of the near side put shims on PATH; tests that count say otherwise."""
    return True


@pytest.fixture
def near_home(has_shims: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own for the near side."""
    home = move_in(monkeypatch, tmp_path / "near")
    if not has_shims:
        monkeypatch.setenv("SMARTSIM_BRIDGE_SHIMS", "no")
    return home


@pytest.fixture
def lonely_user(needs_sshd: None) -> Iterator[User]:
    """A user of no other test, whose directories outside the home may be spoilt."""
    if not is_root():
        pytest.skip("making a user needs root")
    with user_of_nobody_else("ssb_carol") as user:  # what is hers in /tmp is removed, and squatted
        paths = [Path(root, f"smartsim-bridge-{user.uid}") for root in NODE_ROOTS]
        for path in paths:
            _remove(path)
        yield user
        for path in paths:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_head(
    head_user: User, head_python: HeadPython, near_home: Path, request: pytest.FixtureRequest
) -> Iterator[MakeHead]:
    """Heads that end with the test, and their servers with them."""
    with ExitStack() as stack:

        def make(
            *config: str,
            zmq: bool = True,
            python: HeadPython | None = None,
            user: User | None = None,
            environment: Mapping[str, str] | None = None,
            host_key_types: Sequence[str] = HOST_KEY_TYPES,
        ) -> Head:
            chosen = python or head_python
            variables = dict(environment or {})
            if zmq:
                where = request.getfixturevalue("zmq_directory")
                variables.update({"PYTHONPATH": where} if where else {})
            elif chosen.has_zmq:
                variables.update({"PYTHONPATH": str(stack.enter_context(_no_zmq()))})
            sshd = Sshd(
                user or head_user, config, host_key_types=host_key_types, environment=variables
            )
            head = Head(stack.enter_context(sshd), chosen.path)
            stack.callback(head.close)
            return head

        yield make


@contextlib.contextmanager
def _no_zmq() -> Iterator[Path]:
    """A directory that stands before an installed pyzmq, and has none."""
    directory = Path(tempfile.mkdtemp(prefix="ssb-nozmq-"))
    directory.chmod(0o755)
    file = directory / "zmq.py"
    file.write_text("raise ImportError(\"No module named 'zmq'\")\n", encoding="utf-8")
    file.chmod(0o644)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
