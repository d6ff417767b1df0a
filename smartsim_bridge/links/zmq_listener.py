"""The server's end of ZMQ links: one ROUTER, CURVE both ways, ZAP enforced.

Exactly one client key is let in, and only a named ZAP domain together with its enforcement
fails closed: without either, libzmq accepts every key.  Each connection that speaks becomes
a link of its own; `inflow` watches what each brings before it is a whole message.  Must not
know what messages mean.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message

from ..errors import AddressNotOurs, LinkLost, PeerMisbehaved, PortTaken, ServerStartFailed
from ..protocol import codec
from ..protocol.beacon import Credentials
from ..protocol.messages import Message
from .inflow import Inflow, Inflows, watches
from .link import Link, LinkInfo, Mailbox
from .zmq_socket import LINGER_MS, NOBLOCK, OVER, Pump, check_version, harden

__all__ = ["ZmqListener", "ZmqPeer", "new_credentials"]

ZAP_DOMAIN = "smartsim-bridge"
BACKLOG = 1024  # many clients may arrive at once
# Connections that never said anything: some 20 KiB each where CURVE has begun, and two
# descriptors, of which at least half are for others.
MAX_QUIET, QUIET_SHARE = 512, 4

_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_SRCFD, _RCVMORE = int(zmq.SRCFD), int(zmq.RCVMORE)


def new_credentials() -> tuple[Credentials, str]:
    """Fresh keys for one server and its user's clients; the second value is the server's secret."""
    server_key, server_secret = zmq.curve_keypair()
    client_key, client_secret = zmq.curve_keypair()
    keys = (server_key.decode(), client_key.decode(), client_secret.decode())
    return Credentials(*keys), server_secret.decode()


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
        self._pump: Pump | None = None
        self._monitor: Any = None
        self._watch: Pump | None = None
        self._inflows: Inflows | None = None
        self._inflow: Inflow | None = None  # what brought the message in hand

    def listen(
        self,
        addresses: list[str],
        port: int,
        credentials: Credentials,
        secret: str,
        ports: Sequence[int] = (),
    ) -> tuple[str, ...]:
        """Binds `port` (0: any free one), or of `ports` each, on all addresses: the endpoints.

        Raises PortTaken, AddressNotOurs, ServerStartFailed, and then listens nowhere.
        """
        self._guard = ThreadAuthenticator(self._context)
        self._guard.start()
        self._guard.configure_curve_callback(ZAP_DOMAIN, _OneKey(credentials.client_key))
        self._socket = self._router(secret)
        self._monitor = self._monitored()
        try:
            chosen = zip(addresses, ports or [port] * len(addresses))
            endpoints = tuple(self._bind(address, one) for address, one in chosen)
        except ServerStartFailed:
            self.close()
            raise
        self._pump = Pump(self._socket, self._arrived, self._receive)
        if watches():
            bound = {int(endpoint.rpartition(":")[2]) for endpoint in endpoints}
            self._inflows = Inflows(bound, _most_quiet(), self._pump.take)
        self._watch = Pump(self._monitor, self._happened)
        return endpoints

    def close(self) -> None:
        """Stops listening and cuts every link."""
        for peer in list(self._peers.values()):
            peer.cut(LinkLost("The server closed the link"))
        for pump in (self._pump, self._watch):
            if pump is not None:
                pump.close()
        for socket in (self._socket, self._monitor):
            if socket is not None:
                socket.close(linger=LINGER_MS)
        if self._guard is not None:
            self._guard.stop()
        self._context.term()
        if self._inflows is not None:
            self._inflows.close()  # last: the peers see the end only now

    def _router(self, secret: str) -> Any:
        socket: Any = self._context.socket(zmq.ROUTER)
        harden(socket)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an unknown peer is an error, not silence
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return socket

    def _monitored(self) -> Any:
        """Where the socket tells of its connections."""
        place = "inproc://connections"
        self._socket.monitor(place, _WATCHED)
        monitor: Any = self._context.socket(zmq.PAIR)
        # Without a high-water mark: at one, libzmq's own thread would wait for us to read,
        # holding a lock that the end of the socket needs.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(place)
        return monitor

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

    def _happened(self, frames: list[bytes]) -> None:
        if self._inflows is None:
            return
        event = parse_monitor_message(frames)
        descriptor = int(event["value"])
        if event["event"] == zmq.EVENT_ACCEPTED:
            self._inflows.accept(descriptor)
            return
        gone = self._inflows.find(descriptor)
        self._inflows.end(descriptor)
        if gone is not None:
            # Not at once: a message may be in hand, and nothing may overtake it.
            asyncio.get_running_loop().call_soon(self._end_peers_of, gone)

    def _end_peers_of(self, gone: Inflow) -> None:
        """Its connection broke; what it brought before, a goodbye as a rule, comes first."""
        peers = [peer for peer in self._peers.values() if peer.inflow is gone]
        if peers and self._pump is not None:
            self._pump.empty()
        for peer in peers:
            peer.end(LinkLost("The connection to the client broke"))

    def _receive(self) -> list[bytes]:
        """Takes one message, and notes which connection brought it."""
        identity = self._socket.recv(NOBLOCK)
        peer = self._peers.get(identity)
        if peer is not None:
            first = self._socket.recv(NOBLOCK)
            self._inflow = peer.inflow
        else:
            part = self._socket.recv(NOBLOCK, copy=False)  # which alone tells it
            first = part.bytes
            self._inflow = self._find_inflow(part)
        return [identity, first, *self._following()]

    def _following(self) -> list[bytes]:
        """The other parts of the message in hand; of too many, as many as show that they are.

        Each that is kept costs more than it takes to send it: whoever sends messages of ten
        thousand would be ahead of us for ever, and what waits is memory.
        """
        parts: list[bytes] = []
        while self._socket.get(_RCVMORE):
            part = self._socket.recv(NOBLOCK)
            if len(parts) < codec.MAX_FRAMES:
                parts.append(part)
            elif self._inflow is not None:
                self._inflow.drop(part)
        return parts

    def _find_inflow(self, part: Any) -> Inflow | None:
        if self._inflows is None or self._watch is None:
            return None
        descriptor = part.get(_SRCFD)
        # It was accepted before it spoke, but that is told by another socket; and so is the end
        # of an earlier connection with this number.
        self._watch.empty()
        return self._inflows.find(descriptor)

    def _arrived(self, frames: list[bytes]) -> None:
        identity, body = frames[0], frames[1:]
        if self._inflow is not None:
            self._inflow.deliver(body)
        peer = self._peers.get(identity)
        if body == OVER:
            if peer is not None:
                self.forget(identity)
                peer.mailbox.close(LinkLost("The client closed the link"))
            return
        try:
            # Before there is a link: a first word that is none costs us a look, not a task.
            message = codec.decode(body)
            if peer is None:
                peer = self._peers[identity] = ZmqPeer(self, identity, self._inflow)
                self._on_link(peer)
            peer.mailbox.put(message)
        except PeerMisbehaved as fault:
            (peer or ZmqPeer(self, identity)).cut(fault)

    def post(self, identity: bytes, frames: list[bytes]) -> None:
        """Sends to one peer; raises LinkLost where it is gone."""
        try:
            self._socket.send_multipart([identity, *frames], NOBLOCK, copy=True)
        except zmq.ZMQError as failed:
            raise LinkLost(f"The client is gone: {failed}") from None
        finally:
            # One that fails has looked for news as well, and may have swallowed an edge.
            if self._pump is not None:
                self._pump.look()

    def forget(self, identity: bytes) -> None:
        """The peer's link is over; whatever it still sends starts a new one."""
        self._peers.pop(identity, None)


def _most_quiet() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_QUIET if soft == resource.RLIM_INFINITY else min(MAX_QUIET, soft // QUIET_SHARE)


def _bind_fault(address: str, port: int, refused: zmq.ZMQError) -> ServerStartFailed:
    if refused.errno == errno.EADDRINUSE:
        return PortTaken(f"Port {port} of {address} is in use", step="listen")
    if refused.errno in (errno.EADDRNOTAVAIL, errno.ENODEV, errno.EINVAL):
        return AddressNotOurs(f"{address} is no address of this host", step="listen")
    return ServerStartFailed(f"Cannot listen on {address} port {port}: {refused}", step="listen")


class ZmqPeer(Link):
    """The server's end of one connection, seen through the ROUTER."""

    def __init__(
        self, listener: ZmqListener, identity: bytes, inflow: Inflow | None = None
    ) -> None:
        self.info = LinkInfo("zmq", f"client {identity.hex()}")
        self.mailbox = Mailbox()
        self.inflow = inflow
        self._listener = listener
        self._identity = identity

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        try:
            self._listener.post(self._identity, codec.encode(message))
        except LinkLost as fault:
            self.end(fault)
            raise

    async def close(self) -> None:
        self.cut(LinkLost("The link was closed", host=self.info.peer))

    def cut(self, fault: LinkLost) -> None:
        if self.mailbox.fault is not None:
            return
        self.end(fault)
        try:
            self._listener.post(self._identity, OVER)
        except LinkLost:
            pass  # it knows already

    def end(self, fault: LinkLost) -> None:
        """Nothing more comes or goes; the peer is not told."""
        self.mailbox.close(fault)
        self._listener.forget(self._identity)
