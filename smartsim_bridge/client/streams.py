"""The three streams of a command, as its caller reads and writes them.

A reader grants the server new credit only for what was really taken, so whoever stops
reading stops the command's output and nothing else.  Async; bytes only, text is made by
the blocking face.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable

from ..errors import CommandServerError
from ..protocol.codec import MAX_PAYLOAD
from ..protocol.flow import Receiving, Sending

__all__ = ["InputWriter", "OutputReader"]


class OutputReader:
    """stdout or stderr of a command: `read`, `readline`, or `async for line`."""

    def __init__(
        self,
        acknowledge: Callable[[int], None],
        on_close: Callable[[], None] | None = None,
        *,
        begin: int = 0,
    ) -> None:
        self._acknowledge = acknowledge
        self._on_close = on_close
        self._is_closed = False
        self._receiving = Receiving(begin=begin)
        self._buffer = bytearray()
        self._counted = 0  # bytes of the buffer that were handed on ahead of their taking
        self._ended = False
        self._fault: CommandServerError | None = None
        self._news: asyncio.Future[None] | None = None
        self._collected: list[bytes] | None = None

    # --- for the caller

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, at least one unless the stream has ended; -1: all to the end.

        Raises LinkLost where the rest cannot come; what came before is given first.
        """
        if size == 0:
            return b""
        while not self._ended and (size < 0 or not self._buffer):
            if size < 0:
                self._count_all()
            await self._wait()
        if self._fault is not None and not self._buffer:
            # A copy: readers in several threads would share, and grow, one traceback.
            raise copy.copy(self._fault)
        return self._take(len(self._buffer) if size < 0 else size)

    async def readline(self) -> bytes:
        """One line with its end, the last one perhaps without; b"" at the end of the stream."""
        seen = 0
        while True:
            found = self._buffer.find(b"\n", seen)
            if found >= 0:
                return self._take(found + 1)
            if self._ended:
                if self._fault is not None and not self._buffer:
                    raise copy.copy(self._fault)
                return self._take(len(self._buffer))
            seen = len(self._buffer)
            self._count_all()
            await self._wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            line = await self.readline()
            if not line:
                return
            yield line

    def close(self) -> None:
        """Reads no more: the command gets SIGPIPE when it writes on; more than once is no harm."""
        if not self._is_closed:
            self._is_closed = True
            self._buffer.clear()
            if not self._ended and self._on_close is not None:
                self._on_close()
            self.end()

    def collect(self) -> None:
        """Takes everything at once as it comes, for `collected`."""
        if self._collected is None:
            self._collected = [self._take(len(self._buffer))]

    def collected(self) -> bytes:
        """All that came since `collect`."""
        return b"".join(self._collected or [])

    # --- for the command

    @property
    def taken(self) -> int:
        """The offset below which everything reached its reader: where to go on after a lost link.

        What lies here beyond it comes again, and is dropped.
        """
        return self._receiving.acknowledgement()

    @property
    def next(self) -> int:
        """The offset of the byte that must come next."""
        return self._receiving.next

    @property
    def is_closed(self) -> bool:
        """Whether nobody wants any more of it."""
        return self._is_closed

    def feed(self, offset: int, data: bytes, eof: bool) -> None:
        """Bytes came; raises PeerMisbehaved."""
        if self._is_closed:
            return  # they were under way when we closed
        fresh = self._receiving.accept(offset, data, eof)
        if self._collected is not None:
            self._collected.append(fresh)
            self._hand_on(len(fresh))
        else:
            self._buffer += fresh
        if eof:
            self._ended = True
        self._wake()

    def end(self, fault: CommandServerError | None = None) -> None:
        """There will be no more: it is complete, or (`fault`) it is not."""
        if not self._ended:
            self._ended, self._fault = True, fault
            self._wake()

    # --- inside

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: len(taken)]
        counted = min(self._counted, len(taken))
        self._counted -= counted
        self._hand_on(len(taken) - counted)
        return taken

    def _count_all(self) -> None:
        """Counts what lies here as handed on: its taker waits for more than the window holds."""
        self._hand_on(len(self._buffer) - self._counted)
        self._counted = len(self._buffer)

    def _hand_on(self, count: int) -> None:
        due = self._receiving.hand_on(count)
        if due is not None and not self._ended:
            self._acknowledge(due)

    async def _wait(self) -> None:
        # One future for all who wait, shielded: one of them may be cancelled.
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class InputWriter:
    """stdin of a command."""

    def __init__(self, post: Callable[[int, bytes, bool], None], *, begin: int = 0) -> None:
        self._post = post
        self._sending = Sending(begin=begin)
        self._news: asyncio.Future[None] | None = None
        self._broken = False
        self._closed = False
        self._fault: CommandServerError | None = None

    @property
    def sent(self) -> int:
        """The offset below which everything was said."""
        return self._sending.end

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def fits(self, data: bytes) -> bool:
        """Whether `write_now` may take it."""
        return len(data) <= self._sending.room

    def write_now(self, data: bytes) -> None:
        """Writes what `fits`, without waiting."""
        for start in range(0, len(data), MAX_PAYLOAD):
            piece = data[start : start + MAX_PAYLOAD]
            self._post(self._sending.take(piece), piece, False)

    async def write(self, data: bytes | memoryview) -> None:
        """Writes it all, waiting while the command does not read.

        Raises BrokenPipeError where the command closed its stdin, LinkLost, and ValueError
        after close.
        """
        if self._closed:
            raise ValueError("write to closed stdin")
        view = memoryview(data)
        while view:
            await self._wait_for_room()
            piece = bytes(view[: self._sending.room])
            self.write_now(piece)
            view = view[len(piece) :]

    def close(self) -> None:
        """The command sees the end of its input; more than once does no harm."""
        if not self._closed:
            self._closed = True
            self._sending.finish()
            if self._fault is None and not self._broken:
                self._post(self._sending.end, b"", True)

    def say_again(self) -> None:
        """What the command may not have got, over another link."""
        if self._fault is None and not self._broken:
            for offset, data in self._sending.replay():
                self._post(offset, data, False)
            if self._closed:
                self._post(self._sending.end, b"", True)

    def acknowledge(self, offset: int, broken: bool) -> None:
        """The command took its input up to `offset`; `broken`: it takes no more."""
        self._sending.acknowledge(offset)
        self._broken = self._broken or broken
        self._wake()

    def end(self, fault: CommandServerError | None = None) -> None:
        """The command is over, or the link is."""
        self._fault = self._fault or fault
        self._broken = True
        self._wake()

    async def _wait_for_room(self) -> None:
        self._check()
        while self._sending.room == 0:
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        self._check()
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)
        self._check()

    def _check(self) -> None:
        if self._fault is not None:
            raise copy.copy(self._fault)
        if self._broken:
            raise BrokenPipeError("The command reads no more input")

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
