"""One connection through the flaky proxy: two sockets, and what carries bytes between them.

Part of flaky_proxy.py, which says what tests may use.  It does as the rules of the proxy
say at each piece; it plans nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, Union

__all__ = ["TO_CLIENT", "TO_SERVER", "Address", "Connection", "ready"]

# Host and port, or the path of a unix socket.
Address = Union[tuple[str, int], str]

# The direction in which bytes go.
TO_CLIENT = "to client"
TO_SERVER = "to server"

PIECE = 256 * 1024  # bytes in our hands, per direction of a connection
LAST_READ_SECONDS = 10.0  # that one who was cut off has for reading what came before


class Rules(Protocol):
    """What a connection asks its proxy."""

    target: Address
    delay: float
    flows: asyncio.Event

    def grant(self, direction: str, wanted: int) -> tuple[int, bool]:
        """How many bytes may still go, and whether the connection ends after them."""

    def count_bytes(self, direction: str, count: int) -> None:
        """They were handed on."""

    def count_cut(self) -> None:
        """A planned cut was made."""

    def forget(self, connection: Connection) -> None:
        """It is over."""


class Connection:
    """Two sockets and a task that carries bytes between them."""

    def __init__(self, proxy: Rules, near: socket.socket) -> None:
        self._proxy = proxy
        self._near = near
        self._far: socket.socket | None = None
        self.was_cut = False  # though whoever got its last bytes may still read them

    def start(self, *, is_silent: bool) -> None:
        self._near.setblocking(False)
        work = self._until_over(self._near_leaves if is_silent else self._forward)
        self._task = asyncio.get_running_loop().create_task(work)

    async def reset(self) -> None:
        """Ends it at once, with what is under way."""
        for end in (self._near, self._far):
            if end is not None:
                _reset_on_close(end)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._close()  # the task may never have begun

    async def _until_over(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with contextlib.suppress(OSError):
                await work()
        finally:
            self._close()

    def _close(self) -> None:
        self._near.close()
        if self._far is not None:
            self._far.close()
        self._proxy.forget(self)

    async def _near_leaves(self) -> None:
        """What it says is lost."""
        await _read_out(self._near)

    async def _forward(self) -> None:
        loop = asyncio.get_running_loop()
        await self._proxy.flows.wait()
        target = self._proxy.target
        self._far = socket.socket(socket.AF_INET if isinstance(target, tuple) else socket.AF_UNIX)
        self._far.setblocking(False)
        await loop.sock_connect(self._far, target)
        for end in (self._near, self._far):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pumps = [
            loop.create_task(self._pump(self._near, self._far, TO_SERVER)),
            loop.create_task(self._pump(self._far, self._near, TO_CLIENT)),
        ]
        try:
            # The first fault ends both; an end of stream is none, it is passed on.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            cut_off = [pump.exception() for pump in pumps if pump.done()]
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
        for fault in cut_off:
            if isinstance(fault, _CutHere):
                await self._end_after_last_byte(fault.source, fault.sink)

    async def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        loop, proxy = asyncio.get_running_loop(), self._proxy
        buffer = memoryview(bytearray(PIECE))
        while True:
            count = await loop.sock_recv_into(source, buffer)
            await proxy.flows.wait()
            if count == 0:
                sink.shutdown(socket.SHUT_WR)
                return
            if proxy.delay:
                await asyncio.sleep(proxy.delay)
            await self._hand_on(buffer[:count], source, sink, direction)
            await asyncio.sleep(0)  # a receive that need not wait never lets others run

    async def _hand_on(
        self, piece: memoryview, source: socket.socket, sink: socket.socket, direction: str
    ) -> None:
        loop = asyncio.get_running_loop()
        granted, is_last = self._proxy.grant(direction, len(piece))
        piece = piece[:granted]
        while piece:
            await self._proxy.flows.wait()
            try:
                sent = sink.send(piece)
            except BlockingIOError:
                await ready(sink, loop.add_writer, loop.remove_writer)
                continue
            self._proxy.count_bytes(direction, sent)
            piece = piece[sent:]
        if is_last:
            self.was_cut = True
            self._proxy.count_cut()
            raise _CutHere(source, sink)

    async def _end_after_last_byte(self, source: socket.socket, sink: socket.socket) -> None:
        """A close with unread bytes would be a reset, and take back what was sent."""
        _reset_on_close(source)
        source.close()
        sink.shutdown(socket.SHUT_WR)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_read_out(sink), LAST_READ_SECONDS)


class _CutHere(Exception):
    """Not a fault: the last byte before a planned cut has gone."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        super().__init__("cut")
        self.source = source
        self.sink = sink


def _reset_on_close(end: socket.socket) -> None:
    if end.family == socket.AF_INET:
        with contextlib.suppress(OSError):  # closed meanwhile
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _read_out(end: socket.socket) -> None:
    """Until the end of what the peer says."""
    loop, scrap = asyncio.get_running_loop(), bytearray(PIECE)
    while True:
        if await loop.sock_recv_into(end, scrap) == 0:
            return
        await asyncio.sleep(0)


async def ready(
    end: socket.socket, watch: Callable[..., None], forget: Callable[..., object]
) -> None:
    event = asyncio.Event()
    watch(end, event.set)
    try:
        await event.wait()
    finally:
        forget(end)
