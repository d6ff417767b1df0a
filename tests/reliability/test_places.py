"""Disks that are full, clocks that jump, sites that forbid, places that vanish."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import init_command_server, shutdown_command_server
from smartsim_bridge.errors import CommandServerError, ServerStartFailed
from smartsim_bridge.server.beacon_file import Lock
from tests.server.running import Fleet, is_running
from tests.support.figures import Figure
from tests.support.heads import MakeHead, servers_in
from tests.support.local_server import MakeLocalServer
from tests.support.users import User, is_root
from tests.support.waiting import wait_until

SECONDS = 60.0

# --- disks --------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of our own with room for little."""
    if not is_root():
        pytest.skip("mounting needs root")
    place = Path(tempfile.mkdtemp(prefix="ssb-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


@pytest.fixture
def fleet(small_disk: Path) -> Iterator[Fleet]:
    servers = Fleet(small_disk / "state")
    try:
        yield servers
    finally:
        servers.close()


def _fill(disk: Path) -> Path:
    """Takes the last byte."""
    path = disk / "full"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    assert shutil.disk_usage(disk).free == 0
    return path


@pytest.mark.root
def test_server_goes_on_serving_when_the_disk_of_its_state_is_full(
    fleet: Fleet,
    small_disk: Path,
    near_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    beacon, _ = fleet.start()
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(fleet.state))
    before = fleet.files()
    with init_command_server(transport="local") as early:
        ballast = _fill(small_disk)
        for number in range(100):
            assert early.run(["echo", str(number)]).stdout == f"{number}\n"
        with init_command_server(transport="direct") as late:
            much = "x" * 3_000_000
            assert late.run(["cat"], input=much).stdout == much
    assert is_running(beacon)
    # The beacon is whole, and no half of a new one lies beside it.
    assert servers_in(fleet.state) == [beacon]
    assert fleet.files() == before
    ballast.unlink()
    figure(24, commands_on_a_full_disk=101)


@pytest.mark.root
def test_start_on_a_full_disk_is_refused_in_words_and_leaves_nothing(
    fleet: Fleet, small_disk: Path
) -> None:
    fleet.start()
    (found,) = servers_in(fleet.state)
    fleet.stop(found)
    _fill(small_disk)
    said = fleet.refuse()
    assert "No space left" in said
    assert str(small_disk) in said
    assert not [name for name in fleet.files() if name.startswith(".new-")]


@pytest.mark.root
def test_start_on_a_read_only_disk_is_refused_in_words(fleet: Fleet, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = fleet.refuse()
    assert "Read-only file system" in said
    assert str(small_disk) in said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ESTALE])
def test_place_without_locks_is_refused_in_words(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "lock"
    with pytest.raises(ServerStartFailed) as caught:
        Lock(str(path)).take()
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)


# --- clocks -------------------------------------------------------------------------------

# What time.time() says, as far from the truth as a file says.
_CLOCK = """
import sys, time
_file, _true = {file!r}, time.time
def _shown():
    try:
        with open(_file) as file:
            return _true() + float(file.read() or 0)
    except OSError:
        return _true()
time.time = _shown
"""

_CLIENT = """
import sys, time
import smartsim_bridge.ssh.connection as connection
connection.KEEPALIVE_SECONDS = 1
from smartsim_bridge import init_command_server
transport, *rest = sys.argv[1:]
words = dict(zip(("addr", "ssh_config", "python"), rest))
with init_command_server(transport=transport, autostart=bool(rest), **words) as bridge:
    running = bridge.popen(["sh", "-c", "while read line; do echo $line; done"])
    print("ready", flush=True)
    for line in sys.stdin:
        jumped = time.time() - time.clock_gettime(time.CLOCK_REALTIME)
        assert abs(jumped - float(line)) < 60, jumped
        began = time.monotonic()
        running.stdin.write(line)
        running.stdin.flush()
        assert running.stdout.readline() == line
        assert bridge.run(["echo", "on"], timeout=60).stdout == "on\\n"
        assert bridge.status().connected
        took = time.monotonic() - began
        print(f"{took:.3f}", flush=True)
    running.stdin.close()
    assert running.wait(60) == 0
"""

DAY = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A file with seconds; who has its directory on PYTHONPATH is that far ahead."""
    directory = tmp_path / "clock"
    directory.mkdir()
    file = directory / "seconds"
    file.write_text("0", "ascii")
    (directory / "sitecustomize.py").write_text(_CLOCK.format(file=str(file)), "utf-8")
    return file


def _client_through_jumps(clock: Path, *words: str) -> float:
    """The slowest answer, in seconds, to a client whose clock jumps between any two."""
    environment = {**os.environ, "PYTHONPATH": str(clock.parent)}
    slowest = 0.0
    with subprocess.Popen(
        [sys.executable, "-c", _CLIENT, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n", client.communicate()[1]
        for offset in (DAY, -DAY, 365 * DAY, 0):
            clock.write_text(str(offset), "ascii")
            # Past the next keepalive, so that it falls into the new time.
            settled = time.monotonic() + 1.2
            wait_until(lambda end=settled: time.monotonic() > end, 5)  # type: ignore[misc]
            client.stdin.write(f"{offset}\n")
            client.stdin.flush()
            answer = client.stdout.readline()
            assert answer, client.communicate()[1]
            slowest = max(slowest, float(answer))
        _, said = client.communicate(timeout=SECONDS)
        assert (client.returncode, said) == (0, "")
    return slowest


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_client_over_ssh_outlives_jumps_of_its_clock(
    transport: str, make_head: MakeHead, clock: Path, figure: Figure
) -> None:
    head = make_head()
    words = ("head", str(head.sshd.ssh_config), head.python)
    slowest = _client_through_jumps(clock, transport, *words)
    figure(25, slowest_answer_seconds=slowest)


@pytest.mark.slow
def test_server_outlives_jumps_of_its_clock(
    make_local_server: MakeLocalServer, clock: Path, figure: Figure
) -> None:
    clock.write_text(str(DAY), "ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(clock.parent))
        server = make_local_server()
    assert abs(server.beacon.started - time.time() - DAY) < 60, "its clock does not jump"
    slowest = _client_through_jumps(clock, "direct")
    assert server.process.poll() is None
    # Who comes after the jumps finds it.
    clock.write_text(str(-DAY), "ascii")
    assert server.init(transport="local").run(["echo", "on"]).stdout == "on\n"
    figure(25, slowest_answer_seconds=slowest)


# --- sites that forbid --------------------------------------------------------------------


@pytest.mark.sshd
@pytest.mark.parametrize(
    "lines",
    [
        ("AllowTcpForwarding no",),
        ("PermitOpen none",),
        ("AllowStreamLocalForwarding no",),
        ("MaxSessions 1",),
        ("AllowTcpForwarding no", "AllowStreamLocalForwarding no", "MaxSessions 1"),
    ],
    ids=" and ".join,
)
def test_site_that_forbids_costs_one_rung_and_little_time(
    lines: tuple[str, ...],
    make_head: MakeHead,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    head = make_head(*lines)
    head.init(autostart=True).close()
    began = time.monotonic()
    bridge = head.init(timeout=120.0)
    took = time.monotonic() - began
    assert bridge.run(["echo", "on"]).stdout == "on\n"
    status = bridge.status()
    is_forbidden = "AllowTcpForwarding no" in lines or "PermitOpen none" in lines
    assert status.transport == ("stdio" if is_forbidden else "tunnel")
    (tunnel,) = [rung for rung in status.rungs if rung.name == "tunnel"]
    assert bool(tunnel.reason) == is_forbidden
    assert took < 60
    figure(27, slowest_seconds=took)


# --- places that vanish -------------------------------------------------------------------


@pytest.mark.sshd
@pytest.mark.root
def test_server_whose_socket_directory_vanished_still_serves_through_the_tunnel(
    lonely_user: User, make_head: MakeHead
) -> None:
    """As a cleaner of /tmp does it, or who ends a session there."""
    head = make_head(user=lonely_user)
    bridge = head.init(autostart=True)
    shutil.rmtree(Path(head.beacon().socket).parent)
    assert bridge.run(["echo", "still"]).stdout == "still\n"
    again = head.init(autostart=True)
    assert again.run(["echo", "again"]).stdout == "again\n"
    assert again.status().server_pid == bridge.status().server_pid
    assert len(head.server_pids()) == 1


@pytest.mark.sshd
@pytest.mark.root
def test_newcomer_over_stdio_is_served_or_told_that_the_socket_vanished(
    lonely_user: User, make_head: MakeHead
) -> None:
    head = make_head(user=lonely_user)
    bridge = head.init(autostart=True, transport="stdio")
    shutil.rmtree(Path(head.beacon().socket).parent)
    fault: CommandServerError | None = None
    try:
        again = head.init(autostart=True, transport="stdio", timeout=60.0)
        assert again.run(["echo", "again"]).stdout == "again\n"
    except CommandServerError as told:
        fault = told
    assert fault is None or (fault.host and fault.step and fault.advice)
    # Whoever was there notices nothing, and the server can still be ended.
    assert bridge.run(["echo", "still"]).stdout == "still\n"
    shutdown_command_server(bridge)
    wait_until(lambda: head.server_pids() == [])


_NO_LOCKS_IN_THE_HOME = """
import errno, fcntl, os, sys
home, real = os.environ["HOME"] + os.sep, fcntl.flock
def flock(file, operation):
    descriptor = file if isinstance(file, int) else file.fileno()
    if os.readlink(f"/proc/self/fd/{descriptor}").startswith(home):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    return real(file, operation)
fcntl.flock = fcntl.lockf = flock
with open(home + "patched", "w") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as refused:
        file.write(str(refused.errno))
"""


def test_a_home_without_locks_does_not_matter(tmp_path: Path) -> None:
    """As NFS without a lock daemon: locks are taken on the node's own disk only."""
    home, lib = tmp_path / "home", tmp_path / "lib"
    home.mkdir()
    lib.mkdir()
    (lib / "sitecustomize.py").write_text(_NO_LOCKS_IN_THE_HOME, encoding="utf-8")
    fleet = Fleet(home / "state")
    fleet.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(lib), *sys.path]))
    try:
        beacon, _ = fleet.start()
        assert (home / "patched").read_text() == str(errno.ENOLCK)
        assert is_running(beacon)
        assert [one.pid for one in servers_in(fleet.state)] == [beacon.pid]
        assert fleet.start()[0] == beacon  # a second one finds it
    finally:
        fleet.close()


# --- processes that hold much -------------------------------------------------------------

_MANY_FILES = """
import os, resource, sys
from smartsim_bridge import init_command_server
addr, ssh_config, python, transport = sys.argv[1:]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(2000)]
with init_command_server(
    addr, ssh_config=ssh_config, python=python, transport=transport, autostart=True
) as bridge:
    sent = os.urandom(1 << 20)
    assert bridge.run(["cat"], input=sent, text=False, timeout=60).stdout == sent
    print(bridge.status().transport, max(held))
"""


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_program_with_thousands_of_open_files_is_served(
    transport: str, make_head: MakeHead, figure: Figure
) -> None:
    """As a notebook has them: select() knows no descriptor above 1023."""
    head = make_head()
    words = ["head", str(head.sshd.ssh_config), head.python, transport]
    done = subprocess.run(
        [sys.executable, "-c", _MANY_FILES, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    used, highest = done.stdout.split()
    assert used == transport
    assert int(highest) >= 2000
    figure(30, open_files=int(highest))


_LEAVES = """
import sys, threading, time
from smartsim_bridge import init_command_server
addr, ssh_config, python, transport = sys.argv[1:]
bridge = init_command_server(
    addr, ssh_config=ssh_config, python=python, transport=transport, autostart=True
)
held = bridge.popen(["sleep", "600"], text=False)
threading.Thread(target=held.stdin.write, args=(bytes(64 << 20),), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_program_ends_soon_although_much_waits_to_be_sent(
    transport: str, make_head: MakeHead, figure: Figure
) -> None:
    head = make_head()
    words = ["head", str(head.sshd.ssh_config), head.python, transport]
    with subprocess.Popen(
        [sys.executable, "-c", _LEAVES, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        began = time.monotonic()
        _, said = program.communicate("\n", timeout=SECONDS)
        took = time.monotonic() - began
    assert (program.returncode, said) == (0, "")
    figure(30, exit_seconds=took)
