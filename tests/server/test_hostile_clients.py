"""Strangers, broken clients and floods: the server goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq

from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.protocol.beacon import Beacon, Credentials
from smartsim_bridge.protocol.codec import MAX_PAYLOAD, encode
from smartsim_bridge.protocol.framing import pack
from smartsim_bridge.protocol.messages import Input, Message, Start, Welcome
from tests.server.running import Fleet, is_running
from tests.server.talks import Talk, hello
from tests.support.loops import run
from tests.support.waiting import PATIENCE, wait_until

MALFORMED = 10_000
GROWTH = 10 * 1024 * 1024
SEED = 20240501

pytestmark = pytest.mark.slow


@pytest.fixture
def server(fleet: Fleet) -> tuple[Beacon, Credentials]:
    beacon, keys = fleet.start()
    assert keys is not None
    return beacon, keys


def resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def answers(beacon: Beacon, keys: Credentials) -> None:
    """It serves on both ways."""
    for link in (
        await connect_zmq(beacon.endpoints[0], keys, timeout=PATIENCE),
        await connect_unix(beacon.socket),
    ):
        link.send(hello())
        assert isinstance(await link.receive(), Welcome)
        client = Talk(link)
        assert (await client.run("echo", "on")).out == b"on\n"
        await client.close()


@contextmanager
def unimpressed(beacon: Beacon, keys: Credentials, growth: int = GROWTH) -> Iterator[None]:
    """Serves before and after, with no more memory and no more descriptors."""
    run(answers(beacon, keys))
    memory, files = resident(beacon.pid), descriptors(beacon.pid)
    yield
    run(answers(beacon, keys))
    assert is_running(beacon)
    assert resident(beacon.pid) - memory < growth
    wait_until(lambda: descriptors(beacon.pid) <= files + 4)  # it may still close some


def garbage(chance: random.Random) -> bytes:
    """No message, in one of the ways that a stranger has."""
    kinds: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 400)),
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48),
        lambda: b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(47) + chance.randbytes(200),
        lambda: b"\xb5\x01" + struct.pack(">I", chance.randrange(2**32)),
        lambda: b"\xb5" + bytes([chance.randrange(3, 256)]),
        lambda: pack(bad_frames(chance)),
    ]
    return chance.choice(kinds)()


def bad_frames(chance: random.Random) -> list[bytes]:
    """Frames that are no message, though a link carries them."""
    whole = encode(Start("c", ("touch", "/nonexistent/x"), timeout=5.0))[0]
    kinds: list[Callable[[], list[bytes]]] = [
        lambda: [chance.randbytes(chance.randrange(1, 400))],
        lambda: [whole[: chance.randrange(1, len(whole))]],
        lambda: [b"[" * chance.randrange(1000, 50_000)],
        lambda: [b'{"t":"Start","command":' + b'{"a":' * 2000],
        lambda: [b'{"t":"Ping","number":' + b"9" * chance.randrange(20, 5000) + b"}"],
        lambda: [b'{"t":"Ping","number":"1"}'],
        lambda: [b'{"t":"Terminate","command":"c","grace":1e999}'],
        lambda: [b'{"t":"Welcome","protocol":1,"version":"","host":"","pid":1}'],
        lambda: [b'{"t":"Ping","number":1}', b"x"],
        lambda: [b"cos\nsystem\n(S'true'\ntR.", b""],
    ]
    return chance.choice(kinds)()


def throw(family: int, address: tuple[str, int] | str, data: list[bytes]) -> None:
    with socket.socket(family) as stranger, suppress(OSError):
        stranger.settimeout(5)
        stranger.connect(address)
        for piece in data:
            stranger.sendall(piece)


@contextmanager
def dealer(beacon: Beacon, keys: Credentials) -> Iterator[zmq.Socket[bytes]]:
    """A client that holds the right keys and does not keep to the protocol."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as mine:
        mine.linger = 5000
        mine.curve_serverkey = keys.server_key.encode()
        mine.curve_publickey = keys.client_key.encode()
        mine.curve_secretkey = keys.client_secret.encode()
        mine.connect(beacon.endpoints[0])
        yield mine


def test_garbage_from_strangers_leaves_it_serving(server: tuple[Beacon, Credentials]) -> None:
    beacon, keys = server
    chance = random.Random(SEED)
    with unimpressed(beacon, keys):
        for _ in range(MALFORMED):
            throw(socket.AF_INET, ("127.0.0.1", beacon.ports[0]), [garbage(chance)])


def test_garbage_on_the_unix_socket_leaves_it_serving(server: tuple[Beacon, Credentials]) -> None:
    """From programs of the same user: others do not come so far."""
    beacon, keys = server
    chance = random.Random(SEED)

    def flood(connections: int) -> None:
        for _ in range(connections):
            throw(socket.AF_UNIX, beacon.socket, [garbage(chance) for _ in range(4)])

    flood(500)  # as many connections at once as it will ever have, with their buffers
    with unimpressed(beacon, keys):
        flood(MALFORMED // 4)


def test_bad_messages_from_a_client_with_keys_leave_it_serving(
    server: tuple[Beacon, Credentials],
) -> None:
    beacon, keys = server
    chance = random.Random(SEED)
    with unimpressed(beacon, keys), dealer(beacon, keys) as client:
        for _ in range(MALFORMED):
            client.send_multipart(bad_frames(chance))
            while client.poll(0):
                client.recv_multipart()


def test_too_many_frames_leave_it_serving(server: tuple[Beacon, Credentials]) -> None:
    beacon, keys = server
    with unimpressed(beacon, keys), dealer(beacon, keys) as client:
        # libzmq holds a message until its last frame, and all that nobody took yet: each has its
        # answer before the next, or what is measured is how far the server was behind.
        for _ in range(100):
            client.send_multipart([b"{}"] * 10_000)
            assert client.poll(int(PATIENCE * 1000))
            client.recv_multipart()


@pytest.mark.parametrize("way", ["zmq", "unix"])
def test_broken_talk_after_a_good_greeting_leaves_it_serving(
    server: tuple[Beacon, Credentials], way: str
) -> None:
    beacon, keys = server
    after: list[Message] = [
        hello(),
        Input("c", 5, payload=b"gap"),
        Input("c", 0, payload=bytes(MAX_PAYLOAD)),
        Start("c", ("true",), stdin="nonsense"),
    ]

    async def talk() -> None:
        for number in range(200):
            link = await (
                connect_zmq(beacon.endpoints[0], keys, timeout=PATIENCE)
                if way == "zmq"
                else connect_unix(beacon.socket)
            )
            link.send(hello())
            link.send(Start("c", ("true",)))
            link.send(after[number % len(after)])
            await link.close()

    with unimpressed(beacon, keys):
        run(talk(), seconds=120)


def test_announcing_a_gibibyte_costs_nothing(server: tuple[Beacon, Credentials]) -> None:
    """A stranger that has proven nothing sends the opening of CURVE and then a huge frame."""
    beacon, keys = server
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    huge = b"\x06" + struct.pack(">Q", 1 << 30)
    megabyte = bytes(1 << 20)
    with unimpressed(beacon, keys), socket.socket() as stranger:
        stranger.settimeout(10)
        stranger.connect(("127.0.0.1", beacon.ports[0]))
        stranger.sendall(greeting + huge)
        sent = 0
        with suppress(OSError):
            while sent < 1024:
                stranger.sendall(megabyte)
                sent += 1
        assert sent < 64


def test_idle_connections_do_not_keep_others_out(server: tuple[Beacon, Credentials]) -> None:
    beacon, keys = server
    idle = [socket.create_connection(("127.0.0.1", beacon.ports[0])) for _ in range(200)]
    try:
        run(answers(beacon, keys))
    finally:
        for one in idle:
            one.close()
