"""Floods: what is never finished, or never even begun, takes no memory of the server.

Each flood comes several times, for what an allocator keeps once it may keep again; and all
the while a client that means it is served over both ways within its deadline.
"""

from __future__ import annotations

import errno
import re
import resource
import socket
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import zmq

from smartsim_bridge.links.link import Link
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.protocol import codec
from smartsim_bridge.protocol.beacon import Beacon, Credentials
from smartsim_bridge.protocol.codec import MAX_HEADER
from smartsim_bridge.protocol.framing import MARK
from smartsim_bridge.protocol.messages import OLDEST_PROTOCOL, PROTOCOL_VERSION, Hello, Welcome
from tests.server.running import Fleet, is_running
from tests.server.talks import Talk
from tests.server.test_hostile_clients import descriptors
from tests.support.loops import run
from tests.support.waiting import wait_until

MIB = 1024 * 1024
BOUND = 16 * MIB
CROWD = 1000
# Once the opening has come, libzmq takes some 22 KiB for each, and on a busy machine all of
# them are there before the first is cut.
OPENED_BOUND = 48 * MIB
ROUNDS = 5
SERVED_SECONDS = 60.0  # for a client that comes amid a flood, over both ways

# The opening of a ZMTP 3 connection with CURVE, as anybody may send it.
OPENING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks need Linux"),
]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    servers = Fleet(tmp_path / "state")
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture
def server(fleet: Fleet) -> tuple[Beacon, Credentials]:
    beacon, keys = fleet.start()
    assert keys is not None
    return beacon, keys


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Where a thousand sockets may be open; they close with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CROWD if hard == resource.RLIM_INFINITY else min(hard, 4 * CROWD)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield stack


def _memory(pid: int, what: str) -> int:
    """Bytes: VmRSS is what it has, VmHWM the most that it had since `_forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _hello() -> Hello:
    return Hello(OLDEST_PROTOCOL, PROTOCOL_VERSION, "0.1", uuid.uuid4().hex)


async def _is_served(link: Link) -> None:
    link.send(_hello())
    assert isinstance(await link.receive(), Welcome)
    client = Talk(link)
    assert (await client.run("echo", "on")).out == b"on\n"
    await client.close()


def serves(beacon: Beacon, keys: Credentials) -> None:
    """A new client gets its work done, over both ways and in time."""

    async def come() -> None:
        await _is_served(await connect_zmq(beacon.endpoints[0], keys, timeout=SERVED_SECONDS))
        await _is_served(await connect_unix(beacon.socket))

    run(come(), SERVED_SECONDS)


@contextmanager
def unmoved(beacon: Beacon, keys: Credentials, bound: int = BOUND) -> Iterator[None]:
    """Serves before and after, and never has more than `bound` bytes over what it had."""
    for _ in range(3):
        serves(beacon, keys)
    _forget_peak(beacon.pid)
    before, files = _memory(beacon.pid, "VmRSS"), descriptors(beacon.pid)
    yield
    serves(beacon, keys)
    assert is_running(beacon)
    peak, after = (_memory(beacon.pid, name) - before for name in ("VmHWM", "VmRSS"))
    print(f"at most +{peak / MIB:.1f} MiB, afterwards +{after / MIB:.1f} MiB")
    assert peak < bound
    wait_until(lambda: descriptors(beacon.pid) <= files + 4)


def arrive(stack: ExitStack, family: int, address: tuple[str, int] | str, say: bytes) -> None:
    """A crowd that connects, says this much, and then nothing."""
    for _ in range(CROWD):
        one = stack.enter_context(socket.socket(family))
        one.settimeout(60)
        wait_until(partial(_has_connected, one, address))
        with suppress(OSError):  # who is cut while it speaks is one less
            one.sendall(say)


def _has_connected(one: socket.socket, address: tuple[str, int] | str) -> bool:
    """A unix socket with a full queue says "try again" to who does not wait for ever."""
    return one.connect_ex(address) in (0, errno.EISCONN)


def on_tcp(beacon: Beacon) -> tuple[int, tuple[str, int]]:
    return socket.AF_INET, ("127.0.0.1", beacon.ports[0])


def on_unix(beacon: Beacon) -> tuple[int, str]:
    return socket.AF_UNIX, beacon.socket


@pytest.mark.parametrize(
    ("where", "say"),
    [
        (on_tcp, b""),
        (on_tcp, OPENING),
        (on_tcp, OPENING + b"\x06" + struct.pack(">Q", MAX_HEADER) + bytes(4096)),
        (on_unix, b""),
        (on_unix, bytes((MARK, 1)) + struct.pack(">I", MAX_HEADER)),
        (on_unix, bytes((MARK, 1)) + struct.pack(">I", MAX_HEADER) + bytes(64 * 1024)),
        (on_unix, bytes((MARK, 1)) + struct.pack(">I", 4000) + bytes(3900)),
    ],
    ids=["tcp", "tcp-greeted", "tcp-begun", "unix", "unix-announced", "unix-begun", "unix-hello"],
)
def test_thousand_connections_that_say_nothing_whole_take_little(
    server: tuple[Beacon, Credentials],
    crowd: ExitStack,
    where: Callable[[Beacon], tuple[int, tuple[str, int] | str]],
    say: bytes,
) -> None:
    beacon, keys = server
    with unmoved(beacon, keys, OPENED_BOUND if say.startswith(OPENING) else BOUND):
        for _ in range(2):
            with ExitStack() as sockets:
                arrive(sockets, *where(beacon), say)
                for _ in range(3):
                    serves(beacon, keys)


def test_gibibyte_announced_by_a_stranger_is_never_taken(
    server: tuple[Beacon, Credentials],
) -> None:
    beacon, keys = server
    family, address = on_tcp(beacon)
    with unmoved(beacon, keys):
        for _ in range(ROUNDS):
            with socket.socket(family) as stranger:
                stranger.settimeout(60)
                stranger.connect(address)
                stranger.sendall(OPENING + b"\x06" + struct.pack(">Q", 1 << 30))
                assert _pour(stranger) < 64
            serves(beacon, keys)


def _pour(stranger: socket.socket) -> int:
    """MiB that were taken of one GiB until the connection broke."""
    for sent in range(1024):
        try:
            stranger.sendall(bytes(MIB))
        except (BrokenPipeError, ConnectionResetError):
            return sent
    return 1024


@contextmanager
def endless(
    beacon: Beacon, keys: Credentials, size: int, first: list[bytes]
) -> Iterator[Callable[[], bool]]:
    """Sends a message that hardly ever ends; the value tells whether its sender was cut off.

    libzmq lets no part leave before the last one is there, so this one has an end, far away.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as sender:
        sender.linger = 0
        sender.sndhwm = 0
        sender.reconnect_ivl = -1
        sender.curve_serverkey = keys.server_key.encode()
        sender.curve_publickey = keys.client_key.encode()
        sender.curve_secretkey = keys.client_secret.encode()
        with sender.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            sender.connect(beacon.endpoints[0])
            if first:
                sender.send_multipart(first)
                assert sender.poll(60_000)
            parts = min(400_000, 1500 * MIB // size)
            sender.send_multipart([bytes(size)] * parts, copy=False)  # all of them the same bytes
            yield lambda: bool(monitor.poll(0))
            sender.disable_monitor()


@pytest.mark.parametrize("size", [40, 1000, 500_000])
@pytest.mark.parametrize("greets", [False, True], ids=["silent", "greeted"])
def test_endless_message_of_a_client_with_the_key_is_cut(
    server: tuple[Beacon, Credentials], size: int, greets: bool
) -> None:
    beacon, keys = server
    with unmoved(beacon, keys):
        for _ in range(ROUNDS):
            first = codec.encode(_hello()) if greets else []
            with endless(beacon, keys, size, first) as is_cut:
                serves(beacon, keys)
                wait_until(is_cut)


def test_many_endless_messages_together_stay_below_the_same_bound(
    server: tuple[Beacon, Credentials],
) -> None:
    beacon, keys = server
    with unmoved(beacon, keys):
        for _ in range(ROUNDS):
            with ExitStack() as senders:
                cut = [
                    senders.enter_context(endless(beacon, keys, 100_000, codec.encode(_hello())))
                    for _ in range(8)
                ]
                serves(beacon, keys)
                for is_cut in cut:
                    wait_until(is_cut)
