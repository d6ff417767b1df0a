"""ZMQ over TCP, CURVE both ways, ZAP enforced: the only importer of zmq.

One `ZmqLink` is one connection.  libzmq would reconnect by itself and lose what was under
way without a word, so that is switched off: a broken connection is a lost link, and what
was not acknowledged is said again on another one.

The socket is polled through its file descriptor.  That descriptor signals *edges*: after
every send and receive one has to look at ZMQ_EVENTS, or a message may lie unseen.

Must not know what messages mean.  Diagnosis of peers that are not ours: `greeting.py`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message

from ..errors import (
    AddressNotOurs,
    ClientKeyRefused,
    CommandServerError,
    HandshakeFailed,
    LibraryTooOld,
    LinkLost,
    PeerMisbehaved,
    PortTaken,
    ServerStartFailed,
)
from ..protocol import codec
from ..protocol.beacon import Credentials
from ..protocol.messages import Message
from .greeting import diagnose
from .link import Link, LinkInfo, Mailbox

__all__ = ["ZmqLink", "ZmqListener", "check_version", "connect_zmq", "new_credentials"]

OLDEST_LIBZMQ = (4, 3, 5)  # 4.3.4 and older: known crashes and leaks before authentication
ZAP_DOMAIN = "smartsim-bridge"  # only a named domain together with ENFORCE fails closed
HANDSHAKE_MS = 3000  # a stranger holds a connection no longer; the default is 30 s
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5000, 15000
LINGER_MS = 1000  # for a last word to leave; never for ever, which is the default
BACKLOG = 1024  # many clients may arrive at once
BATCH = 64  # messages per turn of the loop, so that other callbacks have their turn

# An empty frame is no message: it says that this link is over.  A ROUTER cannot close one
# connection, so without it a peer whose link was cut would wait for its heartbeat.
_OVER = [b""]

# Plain numbers: arithmetic on pyzmq's enums costs more than the calls it is for.
_EVENTS, _POLLIN, _NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)


def check_version() -> None:
    """Raises LibraryTooOld where libzmq lacks what the links rely on."""
    if zmq.zmq_version_info() < OLDEST_LIBZMQ or not zmq.has("curve"):
        raise LibraryTooOld(
            f"libzmq {zmq.zmq_version()} {'has' if zmq.has('curve') else 'lacks'} CURVE; "
            f"at least {'.'.join(map(str, OLDEST_LIBZMQ))} with CURVE is needed",
            advice="Upgrade pyzmq: pip install --upgrade pyzmq",
        )


def new_credentials() -> tuple[Credentials, str]:
    """Fresh keys for one server and its user's clients; the second value is the server's secret."""
    server_key, server_secret = zmq.curve_keypair()
    client_key, client_secret = zmq.curve_keypair()
    keys = (server_key.decode(), client_key.decode(), client_secret.decode())
    return Credentials(*keys), server_secret.decode()


class _Pump:
    """Calls back with every message of one zmq socket, from the running loop."""

    def __init__(self, socket: Any, on_frames: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._descriptor = socket.getsockopt(zmq.FD)
        self._loop.add_reader(self._descriptor, self._drain)
        self._closed = False
        self._scheduled = False
        self.look()

    def look(self) -> None:
        """To be called after each send: it may have swallowed the edge of an arrival."""
        if not self._closed and not self._scheduled and self._has_more():
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def empty(self) -> None:
        """Takes all that has come: to be called before an end is told that came after it."""
        while not self._closed and self._socket.EVENTS & zmq.POLLIN:
            self._drain()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)

    def _has_more(self) -> int:
        # Asked through get, as a plain number: the attribute would build an enum each time.
        events: int = self._socket.get(_EVENTS)
        return events & _POLLIN

    def _drain(self) -> None:
        self._scheduled = False
        for _ in range(BATCH):
            if self._closed or not self._has_more():
                return
            self._on_frames(self._socket.recv_multipart(_NOBLOCK))
        self.look()


def _harden(socket: Any) -> None:
    """Limits and time-outs for both ends, in force before the peer is authenticated."""
    socket.setsockopt(zmq.MAXMSGSIZE, max(codec.MAX_HEADER, codec.MAX_PAYLOAD))
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    # What may be under way is bounded by the protocol's credit; a high-water mark of
    # libzmq's own would only add a second, silent way to stop or to lose.
    socket.setsockopt(zmq.SNDHWM, 0)


class ZmqLink(Link):
    """The client's end: one DEALER, one connection."""

    def __init__(self, endpoint: str, socket: Any, monitor: Any) -> None:
        self.info = LinkInfo("zmq", endpoint)
        self._socket = socket
        self._monitor = monitor
        self.mailbox = Mailbox()
        self._pump = _Pump(socket, self._arrived)
        self._watch = _Pump(monitor, self._happened)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        try:
            self._socket.send_multipart(codec.encode(message), _NOBLOCK, copy=True)
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
            self._socket.send_multipart(_OVER, zmq.NOBLOCK)
        except zmq.ZMQError:
            pass  # whoever cannot be told finds out by its heartbeat

    def _arrived(self, frames: list[bytes]) -> None:
        if frames == _OVER:
            self.cut(LinkLost("The server closed the link", host=self.info.peer))
            return
        try:
            self.mailbox.put(codec.decode(frames))
        except PeerMisbehaved as fault:
            self.cut(fault)

    def _happened(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
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
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(_REFUSED) | sum(_LOST)


def _settle(future: asyncio.Future[None], fault: Exception | None) -> None:
    if future.done():
        return
    if fault is None:
        future.set_result(None)
    else:
        future.set_exception(type(fault)(*fault.args))


async def connect_zmq(endpoint: str, credentials: Credentials, *, timeout: float) -> ZmqLink:
    """A link to the server at `endpoint`, both sides proven by their keys.

    `timeout` in seconds.  Raises NobodyListening, PeerSilent, NotCommandServer,
    PlaintextPeer, ServerKeyMismatch, ClientKeyRefused: whatever it is that answers there.
    """
    link = ZmqLink(endpoint, *_dial(endpoint, credentials, timeout))
    fault: CommandServerError
    try:
        await asyncio.wait_for(asyncio.shield(link.opened), min(timeout, HANDSHAKE_MS / 1000))
        return link
    except asyncio.TimeoutError:
        fault = HandshakeFailed("No handshake in time")
    except HandshakeFailed as refused:
        fault = refused
    except asyncio.CancelledError:
        link.cut(LinkLost("The connect was cancelled"))
        raise
    link.cut(LinkLost("The handshake failed"))
    if isinstance(fault, ClientKeyRefused):
        raise ClientKeyRefused(fault.what, host=endpoint, step="handshake")
    raise await diagnose(endpoint, timeout=2.0)


def _dial(endpoint: str, credentials: Credentials, timeout: float) -> tuple[Any, Any]:
    check_version()
    socket: Any = zmq.Context.instance().socket(zmq.DEALER)
    _harden(socket)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, max(1, int(timeout * 1000)))
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


class _OneKey:
    """ZAP's question, answered: exactly one client key is ours."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        return key == self._key


class ZmqListener:
    """The server's end: one ROUTER, a `ZmqPeer` for each connection that speaks."""

    def __init__(self, on_link: Callable[[Link], None]) -> None:
        check_version()
        self._on_link = on_link
        self._peers: dict[bytes, ZmqPeer] = {}
        self._context = zmq.Context(1)
        self._guard: Any = None
        self._socket: Any = None
        self._pump: _Pump | None = None

    def listen(
        self, addresses: list[str], port: int, credentials: Credentials, secret: str
    ) -> tuple[str, ...]:
        """Binds `port` (0: any free one) on all addresses; gives the endpoints.

        Raises PortTaken, AddressNotOurs, ServerStartFailed, and then listens nowhere.
        """
        self._guard = ThreadAuthenticator(self._context)
        self._guard.start()
        self._guard.configure_curve_callback(ZAP_DOMAIN, _OneKey(credentials.client_key))
        self._socket = self._router(secret)
        try:
            endpoints = tuple(self._bind(address, port) for address in addresses)
        except ServerStartFailed:
            self.close()
            raise
        self._pump = _Pump(self._socket, self._arrived)
        return endpoints

    def close(self) -> None:
        """Stops listening and cuts every link."""
        for peer in list(self._peers.values()):
            peer.cut(LinkLost("The server closed the link"))
        if self._pump is not None:
            self._pump.close()
        if self._socket is not None:
            self._socket.close(linger=LINGER_MS)
        if self._guard is not None:
            self._guard.stop()
        self._context.term()

    def _router(self, secret: str) -> Any:
        socket: Any = self._context.socket(zmq.ROUTER)
        _harden(socket)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an unknown peer is an error, not silence
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return socket

    def _bind(self, address: str, port: int) -> str:
        spelled = f"[{address}]" if ":" in address else address
        # Set per bind: an IPv4 address bound with it on is reported as ::ffff:127.0.0.1.
        self._socket.setsockopt(zmq.IPV6, int(":" in address))
        try:
            self._socket.bind(f"tcp://{spelled}:{port or '*'}")
        except zmq.ZMQError as refused:
            raise _bind_fault(address, port, refused) from None
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        return str(endpoint.rstrip(b"\0").decode())

    def _arrived(self, frames: list[bytes]) -> None:
        identity, body = frames[0], frames[1:]
        peer = self._peers.get(identity)
        if body == _OVER:
            if peer is not None:
                self.forget(identity)
                peer.mailbox.close(LinkLost("The client closed the link"))
            return
        try:
            # Before there is a link: a first word that is none costs us a look, not a task.
            message = codec.decode(body)
            if peer is None:
                peer = self._peers[identity] = ZmqPeer(self, identity)
                self._on_link(peer)
            peer.mailbox.put(message)
        except PeerMisbehaved as fault:
            (peer or ZmqPeer(self, identity)).cut(fault)

    def post(self, identity: bytes, frames: list[bytes]) -> None:
        """Sends to one peer; raises LinkLost where it is gone."""
        try:
            self._socket.send_multipart([identity, *frames], _NOBLOCK, copy=True)
        except zmq.ZMQError as failed:
            raise LinkLost(f"The client is gone: {failed}") from None
        if self._pump is not None:
            self._pump.look()

    def forget(self, identity: bytes) -> None:
        """The peer's link is over; whatever it still sends starts a new one."""
        self._peers.pop(identity, None)


def _bind_fault(address: str, port: int, refused: zmq.ZMQError) -> ServerStartFailed:
    if refused.errno == errno.EADDRINUSE:
        return PortTaken(f"Port {port} of {address} is in use", step="listen")
    if refused.errno in (errno.EADDRNOTAVAIL, errno.ENODEV, errno.EINVAL):
        return AddressNotOurs(f"{address} is no address of this host", step="listen")
    return ServerStartFailed(f"Cannot listen on {address} port {port}: {refused}", step="listen")


class ZmqPeer(Link):
    """The server's end of one connection, seen through the ROUTER."""

    def __init__(self, listener: ZmqListener, identity: bytes) -> None:
        self.info = LinkInfo("zmq", f"client {identity.hex()}")
        self.mailbox = Mailbox()
        self._listener = listener
        self._identity = identity

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        try:
            self._listener.post(self._identity, codec.encode(message))
        except LinkLost as fault:
            self._end(fault)
            raise

    async def close(self) -> None:
        self.cut(LinkLost("The link was closed", host=self.info.peer))

    def cut(self, fault: LinkLost) -> None:
        if self.mailbox.fault is not None:
            return
        self._end(fault)
        try:
            self._listener.post(self._identity, _OVER)
        except LinkLost:
            pass  # it knows already

    def _end(self, fault: LinkLost) -> None:
        self.mailbox.close(fault)
        self._listener.forget(self._identity)
