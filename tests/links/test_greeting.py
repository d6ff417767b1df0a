"""Every kind of stranger behind an address has its own error."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import zmq

from smartsim_bridge.errors import (
    ClientKeyRefused,
    HandshakeFailed,
    NobodyListening,
    NotCommandServer,
    PeerSilent,
    PlaintextPeer,
    ServerKeyMismatch,
)
from smartsim_bridge.links.greeting import diagnose, judge
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.links.zmq_listener import new_credentials
from smartsim_bridge.protocol.beacon import Credentials
from tests.links.pairs import zmq_listener
from tests.support.loops import run

OURS, _ = new_credentials()


@contextmanager
def deaf_port() -> Iterator[str]:
    """Nobody listens there, and nobody else can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def web_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        BaseHTTPRequestHandler.log_message = lambda *_: None  # type: ignore[method-assign]
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def plain_zmq() -> Iterator[str]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        yield f"tcp://127.0.0.1:{port}"


@asynccontextmanager
async def chatterbox(first: bytes) -> AsyncIterator[str]:
    """Says something as soon as anybody connects."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def fault_at(endpoint: str, credentials: Credentials = OURS) -> HandshakeFailed:
    with pytest.raises(HandshakeFailed) as failed:
        await connect_zmq(endpoint, credentials, timeout=5)
    fault = failed.value
    assert fault.host == endpoint
    assert fault.step in ("connect", "handshake")
    assert fault.advice
    return fault


def test_nobody_listening_has_its_error() -> None:
    with deaf_port() as endpoint:
        assert type(run(fault_at(endpoint))) is NobodyListening


def test_silent_port_has_its_error() -> None:
    with silent_port() as endpoint:
        assert type(run(fault_at(endpoint))) is PeerSilent


def test_port_that_drops_packets_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue of connections drops the next one's first packet, as a firewall does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):
            # A diagnosis would wait again.
            monkeypatch.setattr("smartsim_bridge.links.zmq_link.diagnose", None)
            with pytest.raises(NobodyListening, match="Nothing answers"):
                run(connect_zmq(f"tcp://127.0.0.1:{address[1]}", OURS, timeout=1.0))


def test_web_server_has_its_error() -> None:
    with web_server() as endpoint:
        fault = run(fault_at(endpoint))
    assert type(fault) is NotCommandServer
    assert "HTML" in fault.what


def test_peer_that_speaks_first_has_its_error() -> None:
    async def meet() -> HandshakeFailed:
        async with chatterbox(b"SSH-2.0-OpenSSH_9.2p1\r\n") as endpoint:
            return await fault_at(endpoint)

    fault = run(meet())
    assert type(fault) is NotCommandServer
    assert "SSH-2.0" in fault.what


def test_plain_zmq_has_its_error() -> None:
    with plain_zmq() as endpoint:
        fault = run(fault_at(endpoint))
    assert type(fault) is PlaintextPeer
    assert "NULL" in fault.what


def test_wrong_server_key_has_its_error() -> None:
    async def meet() -> tuple[HandshakeFailed, int]:
        async with zmq_listener() as (endpoint, credentials, links):
            wrong = replace(credentials, server_key=OURS.server_key)
            return await fault_at(endpoint, wrong), links.qsize()

    fault, links = run(meet())
    assert (type(fault), links) == (ServerKeyMismatch, 0)


def test_wrong_client_key_has_its_error() -> None:
    async def meet() -> tuple[HandshakeFailed, int]:
        async with zmq_listener() as (endpoint, credentials, links):
            wrong = replace(OURS, server_key=credentials.server_key)
            return await fault_at(endpoint, wrong), links.qsize()

    fault, links = run(meet())
    assert (type(fault), links) == (ClientKeyRefused, 0)


def test_diagnosis_of_a_unix_socket_works_too(tmp_path: object) -> None:
    fault = run(diagnose(f"ipc://{tmp_path}/none", timeout=2))
    assert type(fault) is NobodyListening


CURVE = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", PeerSilent),
        (CURVE, ServerKeyMismatch),
        (CURVE[:20], ServerKeyMismatch),
        (CURVE.replace(b"CURVE", b"PLAIN"), PlaintextPeer),
        (CURVE[:10], PeerSilent),
        (b"\xff\xfb\x01", NotCommandServer),
        (b"220 mail ESMTP\r\n", NotCommandServer),
        (bytes(64), NotCommandServer),
    ],
)
def test_first_bytes_are_judged(said: bytes, kind: type[HandshakeFailed]) -> None:
    assert type(judge("tcp://h:1", said)) is kind


def test_what_a_stranger_said_is_quoted_without_control_characters() -> None:
    fault = judge("tcp://h:1", b"\x1b]0;title\x07" + b"x" * 500)
    assert "\x1b" not in str(fault)
    assert len(str(fault)) < 400
