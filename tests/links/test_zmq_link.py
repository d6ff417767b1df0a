from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from smartsim_bridge.errors import (
    AddressNotOurs,
    HandshakeFailed,
    LibraryTooOld,
    LinkLost,
    PeerMisbehaved,
    PeerSilent,
    PortTaken,
)
from smartsim_bridge.links.greeting import diagnose
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.links.zmq_listener import ZmqListener, new_credentials
from smartsim_bridge.links.zmq_socket import check_version
from smartsim_bridge.protocol.beacon import Credentials
from smartsim_bridge.protocol.codec import MAX_FRAMES, MAX_HEADER
from smartsim_bridge.protocol.messages import Ping, Pong
from tests.links.pairs import HELLO, all_from, connected, zmq_listener
from tests.support.flaky_proxy import FlakyProxy
from tests.support.loops import run
from tests.support.waiting import PATIENCE

MILLISECONDS = int(PATIENCE * 1000)


def nobody(link: Link) -> None:
    raise AssertionError(f"{link.info.peer} came")


@contextmanager
def dealer(endpoint: str, keys: Credentials | None) -> Iterator[zmq.Socket[bytes]]:
    """A client of somebody else's making; without keys it speaks plain ZMQ."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as mine:
        mine.linger = 0
        if keys is not None:
            mine.curve_serverkey = keys.server_key.encode()
            mine.curve_publickey = keys.client_key.encode()
            mine.curve_secretkey = keys.client_secret.encode()
        mine.connect(endpoint)
        yield mine


async def answered(endpoint: str, credentials: Credentials, links: asyncio.Queue[Link]) -> None:
    """The server still talks with whom it should, and nobody else has come meanwhile."""
    client = await connect_zmq(endpoint, credentials, timeout=5)
    client.send(HELLO)
    server = await links.get()
    assert await server.receive() == HELLO
    server.send(Pong(1))
    assert await client.receive() == Pong(1)
    assert links.empty()
    await client.close()


async def talk_on(link: Link) -> None:
    while True:
        link.send(Pong(2))
        await asyncio.sleep(0)


def library_has_done_its_part() -> None:
    """The client's thread in libzmq, there is one, has ended what it did when this was called."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    with context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.connect(f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}")
        one.send(b"")
        assert other.poll(MILLISECONDS)


@contextmanager
def cut_after(endpoint: str, size: int) -> Iterator[tuple[str, threading.Event]]:
    """A way to the server that breaks as soon as `size` bytes came back from it."""
    host, _, port = endpoint.rpartition("/")[2].rpartition(":")
    broken = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def forward() -> None:
            near, _ = listening.accept()
            with near, socket.create_connection((host, int(port))) as far:
                onward = threading.Thread(target=copy, args=(near, far))
                onward.start()
                copy(far, near, size)
                for end in (near, far):
                    end.shutdown(socket.SHUT_RDWR)
                onward.join()
            broken.set()

        thread = threading.Thread(target=forward)
        thread.start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}", broken
        thread.join()


def copy(source: socket.socket, sink: socket.socket, size: int = 10**9) -> None:
    while size > 0:
        try:
            data = source.recv(min(65536, size))
            if not data:
                return
            sink.sendall(data)
        except OSError:
            return
        size -= len(data)


@pytest.mark.parametrize("kind", ["plain", "other key", "other key pair"])
def test_stranger_gets_nothing(kind: str) -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            other, _ = new_credentials()
            keys = {
                "plain": None,
                "other key": replace(other, server_key=credentials.server_key),
                "other key pair": replace(credentials, client_secret=other.client_secret),
            }[kind]
            with dealer(endpoint, keys) as stranger:
                for _ in range(20):
                    stranger.send_multipart([b'{"t":"Hello"}'])
                await answered(endpoint, credentials, links)
                assert not stranger.poll(0)

    run(talk())


def test_stopped_authenticator_lets_nobody_in() -> None:
    async def talk() -> None:
        listener = ZmqListener(nobody)
        credentials, secret = new_credentials()
        (endpoint,) = listener.listen(["127.0.0.1"], 0, credentials, secret)
        listener._guard.stop()
        with pytest.raises(HandshakeFailed):
            await connect_zmq(endpoint, credentials, timeout=1)
        listener.close()

    run(talk())


@pytest.mark.parametrize("one_way", [0.12, 0.3])
def test_server_at_the_end_of_a_slow_way_is_late_and_not_another_one(
    one_way: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unhurried(endpoint: str, *, timeout: float) -> HandshakeFailed:
        assert timeout > 2 * one_way  # there and back; here it may take more than the way does
        return await diagnose(endpoint, timeout=PATIENCE)

    monkeypatch.setattr("smartsim_bridge.links.zmq_link.diagnose", unhurried)

    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, _):
            port = int(endpoint.rpartition(":")[2])
            with FlakyProxy(("127.0.0.1", port)) as proxy:
                proxy.delay = one_way
                with pytest.raises(PeerSilent, match="in time"):
                    await connect_zmq(
                        f"tcp://127.0.0.1:{proxy.port}", credentials, timeout=5 * one_way
                    )

    run(talk())


@pytest.mark.parametrize(
    "frames",
    [
        [b"garbage"],
        [b'{"t":"Ping","number":1}'] * 3,
        [b'{"t":"Ping","number":1}'] * 5000,
        [b"[" * 100_000],
        [b"", b""],
        [b'{"t":"Pong"}', b""],
    ],
    ids=["garbage", "frames", "many frames", "nested", "empty", "incomplete"],
)
def test_bad_message_costs_its_sender_the_link_and_nobody_else(frames: list[bytes]) -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            other = await connect_zmq(endpoint, credentials, timeout=5)
            other.send(HELLO)
            others = await links.get()
            with dealer(endpoint, credentials) as client:
                client.send(b'{"t":"Ping","number":1}')
                link = await links.get()
                assert await link.receive() == Ping(1)
                client.send_multipart(frames)
                with pytest.raises(PeerMisbehaved):
                    await link.receive()
                assert await asyncio.to_thread(client.poll, MILLISECONDS)
                assert client.recv_multipart() == [b""]
            assert await others.receive() == HELLO
            others.send(Pong(2))
            assert await other.receive() == Pong(2)
            await other.close()

    run(talk())


@pytest.mark.parametrize("is_known", [False, True])
def test_of_too_many_frames_few_are_kept(is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    arrived = ZmqListener._arrived

    def note(listener: ZmqListener, frames: list[bytes]) -> None:
        kept.append(len(frames))
        arrived(listener, frames)

    monkeypatch.setattr(ZmqListener, "_arrived", note)

    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                if is_known:
                    client.send(b'{"t":"Ping","number":1}')
                    assert await (await links.get()).receive() == Ping(1)
                client.send_multipart([b"{}"] * 10_000)
                assert await asyncio.to_thread(client.poll, MILLISECONDS)
                assert client.recv_multipart() == [b""]
                client.send(b'{"t":"Ping","number":2}')
                assert await (await links.get()).receive() == Ping(2)
            assert max(kept) == len(["identity", "the first"]) + MAX_FRAMES

    run(talk())


def test_first_word_that_is_none_makes_no_link() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                client.send(b"garbage")
                assert await asyncio.to_thread(client.poll, MILLISECONDS)
                assert client.recv_multipart() == [b""]
                assert links.empty()

    run(talk())


def test_oversized_message_is_cut_by_the_library() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                client.send_multipart([bytes(3 * 1024 * 1024)])
                await answered(endpoint, credentials, links)

    run(talk())


def test_largest_header_passes() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                client.send(b'{"t":"Ping","number":1}')  # a stranger may bring less at once
                link = await links.get()
                assert await link.receive() == Ping(1)
                client.send(b'{"t":"Ping","number":2}'.ljust(MAX_HEADER))
                assert await link.receive() == Ping(2)

    run(talk())


def test_endless_message_costs_its_sender_the_connection_and_nobody_else() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                client.reconnect_ivl = -1
                with client.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                    client.send_multipart([bytes(500_000)] * 2000, copy=False)
                    assert await asyncio.to_thread(monitor.poll, MILLISECONDS)
                    await answered(endpoint, credentials, links)
                    client.disable_monitor()

    run(talk())


def test_what_came_before_the_connection_broke_is_read_first() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with cut_after(endpoint, 6_000) as (way, broken):
                client = await connect_zmq(way, credentials, timeout=5)
                client.send(HELLO)
                server = await links.get()
                with suppress(LinkLost):
                    for number in range(2000):
                        server.send(Pong(number))
                # Not a turn of the loop until the library has noticed the break.
                broken.wait(PATIENCE)
                assert client._monitor.poll(MILLISECONDS)
                client._watch.look()  # poll() has taken the edge
            came = await all_from(client)
            assert came == [Pong(number) for number in range(len(came))]
            assert len(came) > 20

    run(talk())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_last_words_of_a_server_that_ends_are_read_however_late(kind: str, tmp_path: Path) -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            port = int(endpoint.rpartition(":")[2])
            path = str(tmp_path / "way")
            with FlakyProxy(("127.0.0.1", port), path) as proxy:  # as a tunnel leads there
                way = f"ipc://{path}" if kind == "unix" else endpoint
                client = await connect_zmq(way, credentials, timeout=5)
                client.send(HELLO)
                server = await links.get()
                for number in range(100):
                    server.send(Pong(number))
                # Not a turn of the loop until the library has noticed the end.
                server._listener.close()  # type: ignore[attr-defined]
                assert client._monitor.poll(MILLISECONDS)
                library_has_done_its_part()
                client._watch.look()  # poll() has taken the edge
                assert await all_from(client) == [Pong(number) for number in range(100)]
                assert proxy.connections == (kind == "unix")

    run(talk())


def test_broken_connection_is_a_lost_link_at_both_ends() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with cut_after(endpoint, 1000) as (way, broken):
                client = await connect_zmq(way, credentials, timeout=5)
                client.send(HELLO)
                server = await links.get()
                server.send(Pong(1))
                with pytest.raises(LinkLost, match="gone"):
                    await talk_on(server)
                assert broken.wait(PATIENCE)
            await all_from(client)
            assert client.mailbox.fault is not None
            assert server.mailbox.fault is not None

    run(talk())


def test_message_after_the_end_starts_a_new_link() -> None:
    async def talk() -> None:
        async with zmq_listener() as (endpoint, credentials, links):
            with dealer(endpoint, credentials) as client:
                client.send(b'{"t":"Ping","number":1}')
                first = await links.get()
                client.send(b"garbage")
                client.send(b'{"t":"Ping","number":2}')
                second = await links.get()
                assert first is not second
                assert await second.receive() == Ping(2)

    run(talk())


def test_closed_listener_ends_its_links() -> None:
    async def talk() -> None:
        async with connected("zmq") as (client, server):
            server._listener.close()  # type: ignore[attr-defined]
            with pytest.raises(LinkLost):
                await client.receive()

    run(talk())


def test_taken_port_has_its_error() -> None:
    async def listen() -> None:
        credentials, secret = new_credentials()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortTaken, match=str(port)):
                ZmqListener(nobody).listen(["127.0.0.1"], port, credentials, secret)

    run(listen())


def test_foreign_address_has_its_error_and_nothing_listens() -> None:
    async def listen() -> None:
        credentials, secret = new_credentials()
        # Of an address of its own: at 127.0.0.1 any connection may have the port next.
        with socket.create_server(("127.0.0.12", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(AddressNotOurs, match=r"192\.0\.2\.1"):
            ZmqListener(nobody).listen(["127.0.0.12", "192.0.2.1"], port, credentials, secret)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.12", port)) == errno.ECONNREFUSED

    run(listen())


def test_server_listens_on_every_address() -> None:
    async def listen() -> None:
        credentials, secret = new_credentials()
        listener = ZmqListener(lambda link: None)
        endpoints = listener.listen(["127.0.0.1", "127.0.0.2"], 0, credentials, secret)
        assert [endpoint.rpartition(":")[0] for endpoint in endpoints] == [
            "tcp://127.0.0.1",
            "tcp://127.0.0.2",
        ]
        for endpoint in endpoints:
            await (await connect_zmq(endpoint, credentials, timeout=5)).close()
        listener.close()

    run(listen())


def test_cancelled_connect_leaves_nothing_behind() -> None:
    async def connect(endpoint: str, credentials: Credentials) -> int:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connect_zmq(endpoint, credentials, timeout=5), 0.1)
        return len(asyncio.all_tasks())

    credentials, _ = new_credentials()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert run(connect(endpoint, credentials)) <= 2


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1:99999"])
def test_nonsense_for_an_endpoint_has_an_error(endpoint: str) -> None:
    credentials, _ = new_credentials()
    with pytest.raises(HandshakeFailed):
        run(connect_zmq(endpoint, credentials, timeout=1))


def test_old_library_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 4))
    with pytest.raises(LibraryTooOld, match=r"4\.3\.5"):
        check_version()
    with pytest.raises(LibraryTooOld):
        ZmqListener(nobody)


def test_library_without_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda feature: False)
    with pytest.raises(LibraryTooOld, match="lacks CURVE"):
        check_version()


def test_credentials_are_fresh_each_time() -> None:
    (first, first_secret), (second, second_secret) = new_credentials(), new_credentials()
    keys = {first.server_key, first.client_key, first.client_secret, first_secret}
    keys |= {second.server_key, second.client_key, second.client_secret, second_secret}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {40}
