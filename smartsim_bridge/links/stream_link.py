"""Links over byte streams: unix sockets, and any connected socket that somebody made.

A unix socket is for its owner alone: the file is 0600 in a 0700 directory, and the uid
at the other end is asked of the kernel (SO_PEERCRED) before a byte is read or said, by
both: a path in /tmp that was cleaned up may be somebody else's now.  Must not know what
the messages mean.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import cast

from ..errors import (
    HandshakeFailed,
    LinkLost,
    NobodyListening,
    NotCommandServer,
    PeerMisbehaved,
    PeerSilent,
)
from ..protocol import codec, framing
from ..protocol.messages import Message
from .link import Link, LinkInfo, Mailbox

__all__ = ["StreamLink", "StreamListener", "connect_unix", "link_on_socket", "peer_uid"]

# asyncio accepts as many in one turn, each with buffers of its own: no more than needed.
_BACKLOG = 64
_BUSY_SECONDS, _BUSY_PAUSE = 5.0, 0.01  # for a server that has that many waiting
# Connections that have not said anything yet, some KiB each.  Of more than so many the oldest
# are cut: who means to speak does so at once, but a busy host may take a moment for it, and
# with a quarter of these an honest client was cut in a flood.
MAX_QUIET = 1024
QUIET_SECONDS = 5.0
FIRST_LIMIT = 4 * 1024  # of the first message, a Hello of some hundred bytes
# Read at a time, into one place for all that a listener accepted: with a piece of memory for
# each read, a thousand connections that say too much left the heap full of holes.
READ_SIZE = 256 * 1024
_CLOSE_SECONDS = 2.0  # for what was sent to leave; a peer that does not read gets no more


class StreamLink(asyncio.BufferedProtocol, Link):
    """One connected byte stream."""

    def __init__(self, peer: str, listener: StreamListener | None = None) -> None:
        self.info = LinkInfo("stream", peer)
        self.mailbox = Mailbox()
        self._cutter = framing.Cutter() if listener is None else framing.Cutter(FIRST_LIMIT)
        self._read = memoryview(bytearray(READ_SIZE)) if listener is None else listener.read
        self._listener = listener
        self._is_quiet = listener is not None
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._listener is not None:
            self._listener.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frames in self._cutter.feed(self._read[:nbytes]):
                if self._is_quiet and self._listener is not None:
                    self._is_quiet = False
                    self._listener.spoke(self)
                self.mailbox.put(codec.decode(frames))
        except PeerMisbehaved as fault:
            self.cut(fault)

    def connection_lost(self, exc: Exception | None) -> None:
        why = f": {exc}" if exc else ""
        self.mailbox.close(LinkLost(f"The peer closed the connection{why}", host=self.info.peer))
        self._release()
        if not self._gone.done():
            self._gone.set_result(None)

    def peer_uid(self) -> int | None:
        """Who is at the other end of a unix socket; None where the kernel does not say."""
        if self._transport is None:
            return None
        return peer_uid(self._transport.get_extra_info("socket"))

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        if self._transport is not None:
            self._transport.write(framing.pack(codec.encode(message)))

    async def close(self) -> None:
        self.mailbox.close(LinkLost("The link was closed", host=self.info.peer))
        if self._transport is None:
            return
        self._transport.close()
        await asyncio.wait([self._gone], timeout=_CLOSE_SECONDS)
        self._abort()

    def cut(self, fault: LinkLost) -> None:
        self.mailbox.close(fault)
        self._release()
        self._abort()

    def _release(self) -> None:
        """Nothing more is read.  What remains may wait long for the collector of cycles."""
        self._cutter.clear()
        if self._is_quiet and self._listener is not None:
            self._listener.gone(self)

    def _abort(self) -> None:
        # A transport that is closed already, after a last flush, fails at abort().
        if self._transport is not None and not self._gone.done():
            self._transport.abort()


class StreamListener:
    """Listens on a unix socket and hands on a link for each connection of the same user.

    With its first message: until then a connection costs little, and nobody waits for it.
    """

    def __init__(self, on_link: Callable[[StreamLink], None]) -> None:
        self._on_link = on_link
        self._server: asyncio.AbstractServer | None = None
        self._path = ""
        self._file: tuple[int, int] | None = None
        self.read = memoryview(bytearray(READ_SIZE))  # of each read, until it is cut into messages
        self._quiet: dict[StreamLink, float] = {}  # and when they came, the oldest first
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, path: str) -> None:
        """Binds `path`, in a directory that the caller checked; raises OSError.

        A socket file that is already there is removed: the caller holds the lock that says
        nobody serves it.  Once more where somebody removed the file.
        """
        if self._server is not None:
            self._server.close()
        self._path = path
        _unlink(path)
        # Bound here and not by asyncio, so that the file never has a wider mode than 0600.
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        self._file = _identity(path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listening, backlog=_BACKLOG)

    @property
    def can_be_found(self) -> bool:
        """Whether the file that leads here is still in its place."""
        return self._file is not None and _identity(self._path) == self._file

    def _accept(self) -> StreamLink:
        return StreamLink("unix socket", self)

    def connected(self, link: StreamLink) -> None:
        """A connection was made; who is at its other end is looked at first."""
        uid = link.peer_uid()
        if uid not in (None, os.getuid()):
            link.cut(PeerMisbehaved(f"uid {uid} connected to a socket of uid {os.getuid()}"))
            return
        loop = asyncio.get_running_loop()
        self._quiet[link] = loop.time()
        if len(self._quiet) > MAX_QUIET:
            next(iter(self._quiet)).cut(LinkLost("It said nothing while many others came"))
        if self._sweeper is None:
            self._sweeper = loop.call_later(QUIET_SECONDS, self._sweep)

    def spoke(self, link: StreamLink) -> None:
        """Its first message is whole."""
        self.gone(link)
        self._on_link(link)

    def gone(self, link: StreamLink) -> None:
        """It is not waited for any more."""
        self._quiet.pop(link, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        for link, came in list(self._quiet.items()):
            if came + QUIET_SECONDS > loop.time():
                self._sweeper = loop.call_at(came + QUIET_SECONDS, self._sweep)
                return
            link.cut(LinkLost("It did not say who it is"))

    async def close(self) -> None:
        """Stops listening and removes the socket; links that were handed on live on."""
        for link in list(self._quiet):
            link.cut(LinkLost("The server closed the link"))
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
            if self.can_be_found:
                _unlink(self._path)


def peer_uid(connection: socket.socket) -> int | None:
    """Who is at the other end, as the kernel says; None where it cannot be asked.

    Only Linux has SO_PEERCRED; elsewhere the 0700 directory alone keeps others out.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return int(uid)


async def connect_unix(path: str) -> StreamLink:
    """A link to our own server at `path`.

    Raises NobodyListening, PeerSilent, NotCommandServer (another user listens),
    HandshakeFailed.
    """
    try:
        link = await link_on_socket(await _connect(path), path)
    except (FileNotFoundError, ConnectionRefusedError) as absent:
        raise NobodyListening(
            f"No server at the unix socket {path} ({absent.strerror})", step="local"
        ) from None
    except OSError as refused:
        raise HandshakeFailed(f"Cannot connect to {path}: {refused}", step="local") from None
    uid = link.peer_uid()
    if uid not in (None, os.getuid()):
        link.cut(LinkLost("Somebody else listens"))
        raise NotCommandServer(
            f"The unix socket {path} belongs to uid {uid}",
            step="local",
            advice="Another user took its place: remove it, or name another --state-dir.",
        )
    return link


async def _connect(path: str) -> socket.socket:
    """Not by asyncio, which takes "try again" for "under way" and then for connected.

    A unix socket says so while the server's queue is full, and then nothing is under way.
    """
    end = asyncio.get_running_loop().time() + _BUSY_SECONDS
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connecting.setblocking(False)
    try:
        while True:
            try:
                connecting.connect(path)
                return connecting
            except BlockingIOError:
                if asyncio.get_running_loop().time() > end:
                    raise PeerSilent(
                        f"The server at {path} takes no connection", step="local"
                    ) from None
            await asyncio.sleep(_BUSY_PAUSE)
    except BaseException:
        connecting.close()
        raise


async def link_on_socket(connected: socket.socket, peer: str) -> StreamLink:
    """A link over a socket that is connected already; the link owns it from now on."""
    connected.setblocking(False)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: StreamLink(peer), sock=connected)
    return link


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
