from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smartsim_bridge.errors import (
    HandshakeFailed,
    LinkLost,
    NobodyListening,
    NotCommandServer,
    PeerMisbehaved,
    PeerSilent,
)
from smartsim_bridge.links import stream_link
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.stream_link import (
    StreamLink,
    StreamListener,
    connect_unix,
    link_on_socket,
    peer_uid,
)
from smartsim_bridge.protocol.codec import MAX_PAYLOAD, encode
from smartsim_bridge.protocol.framing import pack
from smartsim_bridge.protocol.messages import Input, Ping
from tests.links.pairs import HELLO
from tests.support.loops import run
from tests.support.users import is_root

NOBODY = 65534


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[asyncio.Queue[Link]]:
    links: asyncio.Queue[Link] = asyncio.Queue()
    listener = StreamListener(links.put_nowait)
    await listener.listen(str(path))
    try:
        yield links
    finally:
        await listener.close()


def open_to_all(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        path.chmod(0o777)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_socket_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    async def listen() -> int:
        async with listening(tmp_path / "s"):
            return stat.S_IMODE((tmp_path / "s").stat().st_mode)

    before = os.umask(umask)
    try:
        assert run(listen()) == 0o600
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_left_over_socket_is_replaced_and_ours_removed(tmp_path: Path) -> None:
    async def listen() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "s"))
        async with listening(tmp_path / "s") as links:
            client = await connect_unix(str(tmp_path / "s"))
            client.send(HELLO)
            assert await (await links.get()).receive() == HELLO
            await client.close()
        assert not (tmp_path / "s").exists()

    run(listen())


def test_nobody_listening_has_its_error(tmp_path: Path) -> None:
    with pytest.raises(NobodyListening):
        run(connect_unix(str(tmp_path / "none")))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NobodyListening):
        run(connect_unix(str(tmp_path / "dead")))


def test_too_long_a_path_has_an_error(tmp_path: Path) -> None:
    with pytest.raises(HandshakeFailed, match="too long"):
        run(connect_unix(str(tmp_path / ("x" * 120))))


def test_kernel_says_who_connected() -> None:
    left, right = pair()
    with left, right:
        assert peer_uid(left) in (os.getuid(), None)


@pytest.mark.skipif(not is_root(), reason="connecting as a second user needs root")
def test_other_user_is_cut_off_unread(tmp_path: Path) -> None:
    """Directory and socket are opened to all, so that only the kernel's word is left."""
    script = f"""
import os, socket
os.setgid({NOBODY}); os.setuid({NOBODY})
link = socket.socket(socket.AF_UNIX)
link.connect("s")
try:
    link.sendall({pack(encode(HELLO))!r})
    print(link.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""

    async def listen() -> bytes:
        async with listening(tmp_path / "s") as links:
            open_to_all(tmp_path)
            stranger = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script), cwd=tmp_path, stdout=subprocess.PIPE
            )
            said, _ = await stranger.communicate()
            assert stranger.returncode == 0
            assert links.empty()
            return said

    assert run(listen()) == b"b''\n"


def test_other_users_link_is_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_link, "peer_uid", lambda _: os.getuid() + 1)

    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(1)
            assert links.empty()
            writer.close()

    run(listen())


def test_server_of_another_user_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect() -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.read())
            writer.close()

        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_unix_server(take, str(tmp_path / "s"))
        monkeypatch.setattr(stream_link, "peer_uid", lambda _: os.getuid() + 1)
        with pytest.raises(NotCommandServer, match=f"uid {os.getuid() + 1}"):
            await connect_unix(str(tmp_path / "s"))
        assert await heard == b""
        server.close()

    run(connect())


def test_client_of_a_busy_server_waits_for_its_turn(tmp_path: Path) -> None:
    async def connect() -> None:
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
            busy.bind(str(tmp_path / "s"))
            busy.listen(0)
            first.connect(str(tmp_path / "s"))
            waiting = asyncio.ensure_future(connect_unix(str(tmp_path / "s")))
            await asyncio.wait([waiting], timeout=0.1)
            assert not waiting.done()
            busy.accept()[0].close()
            link = await waiting
            link.send(HELLO)
            server = await link_on_socket(busy.accept()[0], "client")
            assert await server.receive() == HELLO
            await link.close()
            await server.close()

    run(connect())


def test_server_that_takes_nobody_has_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_link, "_BUSY_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(PeerSilent, match="takes no connection"):
            run(connect_unix(str(tmp_path / "s")))


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xb5\x00", b"\xb5\x01\xff\xff\xff\xff", pack([b"{}"])],
)
def test_noise_cuts_the_link(noise: bytes) -> None:
    async def talk() -> None:
        left, right = pair()
        link = await link_on_socket(left, "noisy")
        reader, writer = await asyncio.open_connection(sock=right)
        writer.write(noise)
        with pytest.raises(PeerMisbehaved):
            await link.receive()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(PeerMisbehaved):
            link.send(Ping(1))

    run(talk())


def test_half_a_message_before_the_end_is_dropped() -> None:
    async def talk() -> None:
        left, right = pair()
        link = await link_on_socket(left, "short")
        whole = pack(encode(Ping(1)))
        right.sendall(whole + whole[:-1])
        right.close()
        assert await link.receive() == Ping(1)
        with pytest.raises(LinkLost):
            await link.receive()

    run(talk())


def test_sending_does_not_wait_for_a_peer_that_does_not_read() -> None:
    async def talk() -> StreamLink:
        left, right = pair()
        with right:
            link = await link_on_socket(left, "slow")
            for number in range(50):
                link.send(Input("c", number * MAX_PAYLOAD, payload=bytes(MAX_PAYLOAD)))
            await link.close()
            return link

    link = run(talk())
    assert link.mailbox.fault is not None


def test_cutting_after_the_close_does_nothing() -> None:
    async def talk() -> None:
        left, right = pair()
        link = await link_on_socket(left, "gone")
        for number in range(4):
            link.send(Input("c", number * MAX_PAYLOAD, payload=bytes(MAX_PAYLOAD)))
        closing = asyncio.ensure_future(link.close())
        reader, _ = await asyncio.open_connection(sock=right)
        await reader.read()
        await closing
        link.cut(LinkLost("Once more"))
        await link.close()

    run(talk())


async def is_ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


def test_link_is_handed_on_with_its_first_message(tmp_path: Path) -> None:
    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            client = await connect_unix(str(tmp_path / "s"))
            other = await connect_unix(str(tmp_path / "s"))
            other.send(HELLO)
            server = await links.get()
            assert await server.receive() == HELLO
            assert links.empty()
            client.send(HELLO)
            assert await (await links.get()).receive() == HELLO
            for link in (client, other):
                await link.close()

    run(listen())


def test_oldest_of_too_many_silent_connections_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_link, "MAX_QUIET", 3)

    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            client = await connect_unix(str(tmp_path / "s"))
            client.send(HELLO)
            server = await links.get()
            silent = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(4)]
            assert await is_ended(silent[0][0])
            server.send(Ping(1))
            assert await client.receive() == Ping(1)
            silent[3][1].write(pack(encode(HELLO)))
            assert await (await links.get()).receive() == HELLO
            for _, writer in silent:
                writer.close()
            await client.close()

    run(listen())


def test_silent_connection_is_cut_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_link, "QUIET_SECONDS", 0.1)

    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            for _ in range(2):
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
                assert await is_ended(reader)
                writer.close()
            assert links.empty()

    run(listen())


def test_long_first_message_is_cut_before_it_comes(tmp_path: Path) -> None:
    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(pack([bytes(stream_link.FIRST_LIMIT + 1)])[:6])
            assert await is_ended(reader)
            assert links.empty()
            writer.close()

    run(listen())


def test_closed_listener_cuts_who_said_nothing(tmp_path: Path) -> None:
    async def listen() -> None:
        async with listening(tmp_path / "s") as links:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            client = await connect_unix(str(tmp_path / "s"))
            client.send(HELLO)
            await links.get()  # so that the one before it is accepted, too
        assert await is_ended(reader)
        writer.close()
        await client.close()

    run(listen())
