"""Strangers at the server's doors, and strangers behind the address where it should be.

Nothing they send is run, kept or unpickled; who belongs there hardly notices them.
"""

from __future__ import annotations

import contextlib
import os
import pickle  # noqa: TID251 - what strangers may send, made here
import random
import resource
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from smartsim_bridge import CommandServerError, init_command_server
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.links.zmq_socket import OVER
from smartsim_bridge.protocol.beacon import Beacon, Credentials, find_ready_line
from smartsim_bridge.protocol.framing import pack
from smartsim_bridge.protocol.messages import OLDEST_PROTOCOL, PROTOCOL_VERSION, Hello
from tests.server.running import Fleet, is_running
from tests.server.talks import Talk
from tests.server.test_hostile_clients import (
    answers,
    bad_frames,
    dealer,
    descriptors,
    garbage,
    resident,
    throw,
)
from tests.support.figures import Figure
from tests.support.flaky_proxy import FlakyProxy, proxied_state
from tests.support.head_python import HeadPython
from tests.support.heads import MakeHead
from tests.support.heads import is_running as pid_is_running
from tests.support.local_server import LocalServer
from tests.support.loops import run
from tests.support.neighbour import Neighbour
from tests.support.peers import http_peer, silent_peer, zmq_plain_peer
from tests.support.users import User
from tests.support.waiting import wait_until

MIB = 1024 * 1024
PROBES = 100
PROBE_SECONDS = 60.0
SERVED_SECONDS = 60.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    servers = Fleet(tmp_path / "state")
    try:
        yield servers
    finally:
        servers.close()


def _start(fleet: Fleet, **popen: object) -> tuple[Beacon, Credentials]:
    beacon, keys = fleet.start(**popen)
    assert keys is not None
    return beacon, keys


async def _probe(beacon: Beacon, keys: Credentials) -> float:
    """Seconds for a new client to connect, greet, run a command and have its output."""
    began = time.monotonic()
    link = await connect_zmq(beacon.endpoints[0], keys, timeout=PROBE_SECONDS)
    # A session of its own: one that is greeted twice is a client that came back.
    link.send(Hello(OLDEST_PROTOCOL, PROTOCOL_VERSION, "0.1", uuid.uuid4().hex))
    await link.receive()
    client = Talk(link)
    told = await client.run("echo", "on")
    await client.close()
    if told.failed is not None:
        raise OSError(told.failed.errno, told.failed.text)
    assert told.out == b"on\n"
    return time.monotonic() - began


def _stranger(beacon: Beacon, seed: int, over: threading.Event) -> None:
    chance = random.Random(seed)
    while not over.is_set():
        throw(socket.AF_INET, ("127.0.0.1", beacon.ports[0]), [garbage(chance)])


def _client_with_keys(beacon: Beacon, keys: Credentials, seed: int, over: threading.Event) -> None:
    chance = random.Random(seed)
    with dealer(beacon, keys) as mine:
        while not over.is_set():
            if mine.poll(1, zmq.POLLOUT):
                mine.send_multipart(bad_frames(chance))
            while mine.poll(0):
                mine.recv_multipart()


@contextlib.contextmanager
def _under_fire(beacon: Beacon, keys: Credentials, seed: int) -> Iterator[None]:
    """Garbage without a pause, from a stranger and from a client with keys."""
    over = threading.Event()
    throwers = [
        threading.Thread(target=_stranger, args=(beacon, seed, over)),
        threading.Thread(target=_client_with_keys, args=(beacon, keys, seed + 1, over)),
    ]
    for thrower in throwers:
        thrower.start()
    try:
        yield
        assert all(thrower.is_alive() for thrower in throwers)
    finally:
        over.set()
        for thrower in throwers:
            thrower.join(60)


# --- at the server's doors ----------------------------------------------------------------


def test_every_client_is_served_while_strangers_throw_garbage(fleet: Fleet, figure: Figure) -> None:
    beacon, keys = _start(fleet)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    run(_probe(beacon, keys), PROBE_SECONDS)
    memory, files = resident(beacon.pid), descriptors(beacon.pid)
    with _under_fire(beacon, keys, seed):
        took = [run(_probe(beacon, keys), PROBE_SECONDS) for _ in range(PROBES)]
    wait_until(lambda: descriptors(beacon.pid) <= files + 4)
    grown = resident(beacon.pid) - memory
    assert grown < 10 * MIB
    figure(
        1,
        probes_answered=len(took),
        median_ms=statistics.median(took) * 1000,
        slowest_of_99_percent_ms=sorted(took)[PROBES * 99 // 100 - 1] * 1000,
        grown_mib=grown / MIB,
    )


def test_message_of_far_too_many_large_frames_costs_its_sender_the_link(
    fleet: Fleet, figure: Figure
) -> None:
    """libzmq limits a frame and not their number, and keeps all until the last one has come."""
    beacon, keys = _start(fleet)
    run(answers(beacon, keys))
    before = resident(beacon.pid)
    with dealer(beacon, keys) as mine:
        mine.linger = 0
        mine.send_multipart([bytes(MIB // 2)] * 200)
        # Cut in the middle, or once all of it was judged: no answer but the end.
        if mine.poll(3000):
            assert mine.recv_multipart() == OVER
        run(answers(beacon, keys))
    wait_until(lambda: resident(beacon.pid) - before < 16 * MIB)
    status = Path(f"/proc/{beacon.pid}/status").read_text("ascii")
    highest = int(status.partition("VmHWM:")[2].split()[0]) * 1024 - before
    kept = resident(beacon.pid) - before
    assert highest < 32 * MIB, "it was kept, though for a moment only"
    figure(2, sent_mib=100, highest_mib=highest / MIB, kept_mib=kept / MIB)


def test_thousand_idle_strangers_leave_room_for_a_client(fleet: Fleet, figure: Figure) -> None:
    """With few descriptors: fewer than there are strangers."""
    few = 200

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

    beacon, keys = _start(fleet, preexec_fn=limited)
    run(answers(beacon, keys))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1000):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", beacon.ports[0]))
        began = time.monotonic()
        _probe_until_served(beacon, keys)
        served = time.monotonic() - began
        # The first strangers are cut by now; whoever waited behind them has come in.
        used, since = _cpu_seconds(beacon.pid), time.monotonic()
        assert is_running(beacon)
        wait_until(lambda: time.monotonic() - since > 3.0, 5)
        share = (_cpu_seconds(beacon.pid) - used) / (time.monotonic() - since)
    run(answers(beacon, keys))
    figure(3, client_served_after_seconds=served, processor_percent=share * 100)


def _probe_until_served(beacon: Beacon, keys: Credentials) -> None:
    """Calls again whenever it is not let in, or is and no descriptor is left for a command."""
    end = time.monotonic() + SERVED_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(CommandServerError, OSError):
            run(_probe(beacon, keys), 60)
            return
    raise AssertionError(f"nobody is served within {SERVED_SECONDS} s")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- at the address where the server should be --------------------------------------------


def _fault(**keywords: object) -> tuple[CommandServerError, float]:
    began = time.monotonic()
    with pytest.raises(CommandServerError) as caught:
        init_command_server(transport="direct", timeout=120.0, **keywords).close()  # type: ignore[arg-type]
    return caught.value, time.monotonic() - began


def test_each_wrong_end_has_its_own_error_and_is_not_tried_again(
    local_server: LocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    wrong: dict[str, Callable[[Path], None]] = {
        "client key": lambda keys: _exchange(keys, client=True),
        "server key": lambda keys: _exchange(keys, client=False),
    }
    found: dict[str, CommandServerError] = {}
    slowest, most = 0.0, 0
    with ExitStack() as stack:
        ends = {
            **dict.fromkeys(wrong, local_server.port),
            "plain text": stack.enter_context(zmq_plain_peer()),
            "web server": stack.enter_context(http_peer()),
            "silence": stack.enter_context(silent_peer()),
        }
        for name, port in ends.items():
            with FlakyProxy(("127.0.0.1", port)) as proxy:
                state = proxied_state(local_server.state_dir, proxy, tmp_path / name)
                (keys,) = (state / "servers").glob("*.key")
                if name in wrong:
                    wrong[name](keys)
                monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
                found[name], took = _fault()
                slowest, most = max(slowest, took), max(most, proxy.connections)
                assert took < 60, f"{name}: {took:.1f} s"  # not the caller's timeout
                # libzmq may try again within the handshake, and one more tells what is there.
                assert proxy.connections <= 2 + took / 0.1, f"{name}: {proxy.connections}"
                before = proxy.connections
                settled = time.monotonic() + 0.5
                wait_until(lambda end=settled: time.monotonic() > end, 2)  # type: ignore[misc]
                assert proxy.connections == before, f"{name} is still being tried"
    assert len({type(fault) for fault in found.values()}) == len(ends), found
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(local_server.state_dir))
    assert local_server.init(transport="local").status().clients == 1
    figure(4, distinct_errors=len(found), slowest_seconds=slowest, most_connections=most)


def _exchange(file: Path, *, client: bool) -> None:
    """Other keys than those that were agreed on."""
    keys = Credentials.from_json(file.read_text("utf-8"))
    public, secret = (key.decode() for key in zmq.curve_keypair())
    if client:
        keys = Credentials(keys.server_key, public, secret)
    else:
        keys = Credentials(public, keys.client_key, keys.client_secret)
    file.write_text(keys.to_json(), "utf-8")


# --- pickles ------------------------------------------------------------------------------


class _Creates:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self._path), "w")


def test_pickle_creates_its_file_where_it_is_unpickled(tmp_path: Path) -> None:
    """Else the test below would pass with any bytes."""
    path = tmp_path / "made"
    pickle.loads(pickle.dumps(_Creates(path))).close()
    assert path.exists()


def test_pickle_at_any_door_creates_nothing(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near_home: Path, figure: Figure
) -> None:
    beacon, keys = _start(fleet)
    made = tmp_path / "made"
    payload = pickle.dumps(_Creates(made), protocol=0)
    doors: dict[str, Callable[[], object]] = {
        "the TCP port": lambda: throw(socket.AF_INET, ("127.0.0.1", beacon.ports[0]), [payload]),
        "the unix socket": lambda: throw(socket.AF_UNIX, beacon.socket, [payload]),
        "a frame on the unix socket": lambda: throw(
            socket.AF_UNIX, beacon.socket, [pack([payload])]
        ),
        "a message": lambda: _send(beacon, keys, [payload]),
        "a payload": lambda: _send(beacon, keys, [b'{"t":"Input","command":"c"}', payload]),
        "the beacon": lambda: _near_side_reads(fleet, "*.json", payload, monkeypatch),
        "the credentials": lambda: _near_side_reads(fleet, "*.key", payload, monkeypatch),
        "the ready line": lambda: _ready_line(payload),
    }
    for door, push in doors.items():
        push()
        assert not made.exists(), door
    run(answers(beacon, keys))
    assert not made.exists()
    figure(6, doors=len(doors))


def _send(beacon: Beacon, keys: Credentials, frames: list[bytes]) -> None:
    with dealer(beacon, keys) as mine:
        mine.send_multipart(frames)
        mine.poll(2000)


def _near_side_reads(
    fleet: Fleet, pattern: str, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = (fleet.state / "servers").glob(pattern)
    before = file.read_bytes()
    file.write_bytes(payload)
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(fleet.state))
    with pytest.raises(CommandServerError):
        init_command_server(transport="direct", timeout=10.0).close()
    file.write_bytes(before)


def _ready_line(payload: bytes) -> None:
    text = payload.decode("latin-1").replace("\n", " ")
    with contextlib.suppress(ValueError):
        find_ready_line(f"smartsim-bridge-ready 0123 {text} {text}", "0123")


# --- another user of the head -------------------------------------------------------------


_PTRACE = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print("attached" if libc.ptrace(16, int(sys.argv[1]), 0, 0) == 0 else "refused")
"""


@pytest.mark.sshd
@pytest.mark.root
def test_neighbour_can_neither_look_into_the_server_nor_move_its_files(
    make_head: MakeHead,
    other_user: User,
    head_python: HeadPython,
    zmq_directory: str,
    tmp_path: Path,
    figure: Figure,
) -> None:
    neighbour = Neighbour(other_user, head_python.path, zmq_directory)
    head = make_head()
    head.sshd.home.chmod(0o755)
    bridge = head.init(autostart=True)
    pid = bridge.status().server_pid
    beacon = head.beacon()
    (keys,) = head.state_dir.glob("servers/*.key")
    node = str(Path(beacon.socket).parent)
    attempts = [
        ["cat", f"/proc/{pid}/environ"],
        ["head", "-c", "1", f"/proc/{pid}/mem"],
        ["ls", f"/proc/{pid}/fd"],
        ["kill", "-0", str(pid)],
        ["ln", str(keys), "/tmp/ssb-hard-link"],
        ["ln", beacon.socket, "/tmp/ssb-hard-link"],
        ["mv", str(head.state_dir), f"{head.state_dir}-moved"],
        ["mv", node, f"{node}-moved"],
        ["rm", "-rf", str(head.state_dir)],
        ["rmdir", node],
    ]
    for attempt in attempts:
        assert not neighbour.can(*attempt), " ".join(attempt)
    assert neighbour.says(head_python.path, "-c", _PTRACE, str(pid)).strip() == "refused"
    assert keys.exists()
    assert pid_is_running(pid)
    assert bridge.run(["echo", "on"]).stdout == "on\n"
    figure(7, refused_attempts=len(attempts) + 1)
