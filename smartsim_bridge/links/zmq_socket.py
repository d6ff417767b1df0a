"""What both ends of a ZMQ link share: versions, limits, and a socket in the event loop.

The socket is polled through its file descriptor.  That descriptor signals *edges*: after
every send and receive one has to look at ZMQ_EVENTS, or a message may lie unseen.

With `zmq_link` and `zmq_listener` the only importers of zmq.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from ..errors import LibraryTooOld
from ..protocol import codec

__all__ = ["HANDSHAKE_MS", "LINGER_MS", "NOBLOCK", "OVER", "Pump", "check_version", "harden"]

OLDEST_LIBZMQ = (4, 3, 5)  # 4.3.4 and older: known crashes and leaks before authentication
HANDSHAKE_MS = 3000  # a stranger holds a connection no longer; the default is 30 s
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5000, 15000
LINGER_MS = 1000  # for a last word to leave; never for ever, which is the default
RECEIVE_QUEUE = 128  # messages that wait for us, per peer; more wait in TCP, and nothing is lost
PART_OVERHEAD = 64  # of encryption, per part of a message; it counts as part of its size
BATCH = 64  # messages per turn of the loop, so that other callbacks have their turn

# An empty frame is no message: it says that this link is over.  A ROUTER cannot close one
# connection, so without it a peer whose link was cut would wait for its heartbeat.
OVER = [b""]

# Plain numbers: arithmetic on pyzmq's enums costs more than the calls it is for.
NOBLOCK = int(zmq.NOBLOCK)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def check_version() -> None:
    """Raises LibraryTooOld where libzmq lacks what the links rely on."""
    if zmq.zmq_version_info() < OLDEST_LIBZMQ or not zmq.has("curve"):
        raise LibraryTooOld(
            f"libzmq {zmq.zmq_version()} {'has' if zmq.has('curve') else 'lacks'} CURVE; "
            f"at least {'.'.join(map(str, OLDEST_LIBZMQ))} with CURVE is needed",
            advice="Upgrade pyzmq: pip install --upgrade pyzmq",
        )


class Pump:
    """Calls back with every message of one zmq socket, from the running loop.

    `receive` takes one that has come off the socket, where that is more than its frames.
    """

    def __init__(
        self,
        socket: Any,
        on_frames: Callable[[list[bytes]], None],
        receive: Callable[[], list[bytes]] | None = None,
    ) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._receive = receive or partial(socket.recv_multipart, NOBLOCK)
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
        while not self._closed and self._has_more():
            self._drain()

    def take(self, most: int) -> bool:
        """Takes up to `most` messages that have come; whether none is left."""
        for _ in range(most):
            if self._closed or not self._has_more():
                return True
            self._on_frames(self._receive())
        self.look()
        return not self._scheduled

    def close(self) -> None:
        """Calls back no more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)

    def _has_more(self) -> int:
        # Asked through get, as a plain number: the attribute would build an enum each time.
        events: int = self._socket.get(_EVENTS)
        return events & _POLLIN

    def _drain(self) -> None:
        self._scheduled = False
        self.take(BATCH)


def harden(socket: Any) -> None:
    """Limits and time-outs for both ends, in force before the peer is authenticated."""
    largest = max(codec.MAX_HEADER, codec.MAX_PAYLOAD)
    socket.setsockopt(zmq.MAXMSGSIZE, largest + PART_OVERHEAD)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    # What may be under way is bounded by the protocol's credit; a high-water mark of
    # libzmq's own would only add a second, silent way to stop or to lose.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE)
