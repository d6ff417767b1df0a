"""The client's end of a ZMQ link: TCP with CURVE, one connection.

libzmq would reconnect by itself and lose what was under way without a word, so that is
switched off: a broken connection is a lost link, and what was not acknowledged is said
again on another one.

Must not know what messages mean.  Diagnosis of peers that are not ours: `greeting`.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..errors import (
    ClientKeyRefused,
    CommandServerError,
    HandshakeFailed,
    LinkLost,
    NobodyListening,
    PeerMisbehaved,
    PeerSilent,
    ServerKeyMismatch,
)
from ..protocol import codec
from ..protocol.beacon import Credentials
from ..protocol.messages import Message
from .greeting import diagnose, unanswered
from .link import Link, LinkInfo, Mailbox
from .zmq_socket import HANDSHAKE_MS, LINGER_MS, NOBLOCK, OVER, Pump, check_version, harden

__all__ = ["ZmqLink", "connect_zmq"]


DIAGNOSIS_SECONDS = 2.0  # to find out what is there instead
# After which libzmq would connect again, by when we have long closed the socket.  Its own way to
# say never, -1, drops what has come and is not read yet as soon as the connection ends.
NEVER_MS = 24 * 3600 * 1000
# That a handshake may take of the time that the connection took, which was one.  It has three,
# and a lost packet is sent again after some more.
ROUND_TRIPS = 10


class ZmqLink(Link):
    """The client's end: one DEALER, one connection."""

    def __init__(self, endpoint: str, socket: Any, monitor: Any) -> None:
        self.info = LinkInfo("zmq", endpoint)
        self._socket = socket
        self._monitor = monitor
        self.mailbox = Mailbox()
        self._pump = Pump(socket, self._arrived)
        self._watch = Pump(monitor, self._happened)
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.opened: asyncio.Future[None] = loop.create_future()

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        try:
            self._socket.send_multipart(codec.encode(message), NOBLOCK, copy=True)
        except zmq.ZMQError as failed:
            fault = LinkLost(f"Cannot send: {failed}", host=self.info.peer)
            self.cut(fault)
            raise fault from None
        self._pump.look()

    async def close(self) -> None:
        if self.mailbox.fault is None:
            self._say_over()
            self.cut(LinkLost("The link was closed", host=self.info.peer))

    def cut(self, fault: LinkLost) -> None:
        self.mailbox.close(fault)
        self._pump.close()
        self._watch.close()
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._socket.close(linger=LINGER_MS)

    def _say_over(self) -> None:
        try:
            self._socket.send_multipart(OVER, NOBLOCK)
        except zmq.ZMQError:
            pass  # whoever cannot be told finds out by its heartbeat

    def _arrived(self, frames: list[bytes]) -> None:
        if frames == OVER:
            self.cut(LinkLost("The server closed the link", host=self.info.peer))
            return
        try:
            self.mailbox.put(codec.decode(frames))
        except PeerMisbehaved as fault:
            self.cut(fault)

    def _happened(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_CONNECTED:
            _settle(self.connected, None)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            _settle(self.opened, None)
        elif event in _REFUSED:
            _settle(self.opened, _REFUSED[event])
        elif event in _LOST:
            _settle(self.opened, HandshakeFailed("The connection was not taken"))
            self._pump.empty()
            self.cut(LinkLost("The connection to the server broke", host=self.info.peer))


_REFUSED: dict[int, HandshakeFailed] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: ClientKeyRefused("The server refused our key"),
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: HandshakeFailed("The handshake broke the protocol"),
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: HandshakeFailed("The handshake was broken off"),
}
_LOST = (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED)
_WATCHED = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(_REFUSED) | sum(_LOST)


def _settle(future: asyncio.Future[None], fault: Exception | None) -> None:
    if future.done():
        return
    if fault is None:
        future.set_result(None)
    else:
        future.set_exception(type(fault)(*fault.args))


async def connect_zmq(
    endpoint: str, credentials: Credentials, *, timeout: float, most: float | None = None
) -> ZmqLink:
    """A link to the server at `endpoint`, both sides proven by their keys.

    `timeout` in seconds; where the way is slow, a handshake that has begun may take more, up to
    `most` in all.  Raises NobodyListening, PeerSilent, NotCommandServer, PlaintextPeer,
    ServerKeyMismatch, ClientKeyRefused: whatever it is that answers there.
    """
    link = ZmqLink(endpoint, *_dial(endpoint, credentials))
    fault: CommandServerError | None = None
    limit = 0.0
    try:
        limit = await _patience(link, timeout, timeout if most is None else most)
        await asyncio.wait_for(asyncio.shield(link.opened), min(limit, HANDSHAKE_MS / 1000))
        return link
    except asyncio.TimeoutError:
        # A port that drops the packets drops those of a diagnosis, too: it would only wait again.
        fault = None if link.connected.done() else unanswered(endpoint)
    except HandshakeFailed as refused:
        fault = refused
    except asyncio.CancelledError:
        link.cut(LinkLost("The connect was cancelled"))
        raise
    link.cut(LinkLost("The handshake failed"))
    if isinstance(fault, ClientKeyRefused):
        raise ClientKeyRefused(fault.what, host=endpoint, step="handshake")
    if isinstance(fault, NobodyListening):
        raise fault
    found = await diagnose(endpoint, timeout=min(DIAGNOSIS_SECONDS, max(timeout, limit) / 2))
    if fault is None and isinstance(found, ServerKeyMismatch):
        # Whoever holds another key hangs up at once: this one is late.
        what = f"{endpoint} did not end the handshake in time"
        raise PeerSilent(what, host=endpoint, step="handshake")
    raise found


async def _patience(link: ZmqLink, timeout: float, most: float) -> float:
    """Waits for the connection; how long the handshake may take after it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait({link.connected, link.opened}, timeout=timeout, return_when=FIRST_COMPLETED)
    took = loop.time() - began
    is_there = link.connected.done()
    return min(most - took, max(timeout - took, ROUND_TRIPS * took if is_there else 0.0))


def _dial(endpoint: str, credentials: Credentials) -> tuple[Any, Any]:
    check_version()
    socket: Any = zmq.Context.instance().socket(zmq.DEALER)
    harden(socket)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, NEVER_MS)
    socket.curve_publickey = credentials.client_key.encode()
    socket.curve_secretkey = credentials.client_secret.encode()
    socket.curve_serverkey = credentials.server_key.encode()
    monitor = socket.get_monitor_socket(_WATCHED)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as refused:
        socket.disable_monitor()
        socket.close(linger=0)
        raise HandshakeFailed(
            f"Cannot connect to {endpoint}: {refused}", host=endpoint, step="connect"
        ) from None
    return socket, monitor
