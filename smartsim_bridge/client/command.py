"""One command on the head, as its caller sees it; async.

Made by `AsyncBridge.popen`.  Its attributes and methods are those of subprocess.Popen,
awaited where they wait.  Knows the talk it goes through, not how that came about.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Sequence

from ..errors import LinkLost
from ..protocol.lifecycle import Input as Event
from ..protocol.lifecycle import Lifecycle, State
from ..protocol.messages import (
    PIPE,
    STDERR,
    STDOUT,
    Exited,
    Input,
    InputTaken,
    Message,
    Output,
    OutputClosed,
    OutputTaken,
    Signal,
    Start,
    Started,
    StartFailed,
    Terminate,
)
from .request import signal_number
from .streams import InputWriter, OutputReader
from .talk import Talk

__all__ = ["AsyncCommand"]

CANCEL_GRACE = 2.0  # seconds between SIGTERM and SIGKILL for the command of a cancelled call


class AsyncCommand:
    """A command that runs, or ran, on the head."""

    def __init__(self, talk: Talk, request: Start, args: object) -> None:
        self.id = request.command
        self.args = args
        self.pid: int = 0
        self.returncode: int | None = None
        self.timed_out = False
        self._talk = talk
        self._request = request
        self._lifecycle = Lifecycle()
        self._fault: BaseException | None = None
        self._news: list[asyncio.Future[None]] = []
        self._feeding: asyncio.Task[None] | None = None
        self._when_over: Callable[[], object] | None = None
        self.stdin = InputWriter(self._post_input) if request.stdin == PIPE else None
        self.stdout = self._open(STDOUT) if request.stdout == PIPE else None
        self.stderr = self._open(STDERR) if request.stderr == PIPE else None

    # --- for the caller

    def request_start(self) -> None:
        """Asks for it; input may follow at once, before the answer.  Raises LinkLost."""
        self._talk.register(self.id, self)
        try:
            self._talk.send(self._request)
        except ValueError as too_large:
            self._talk.forget(self.id)
            raise OSError(errno.E2BIG, f"{os.strerror(errno.E2BIG)} ({too_large})") from None
        except LinkLost:
            self._talk.forget(self.id)
            raise

    async def wait_started(self) -> None:
        """Returns when it runs; raises what subprocess.Popen would raise, or LinkLost."""
        await self._until(lambda: self._lifecycle.state is not State.REQUESTED)

    async def wait(self, timeout: float | None = None) -> int:
        """Its returncode, when the process has ended.

        Raises subprocess.TimeoutExpired after `timeout` seconds, and the command goes on;
        LinkLost where the end cannot be told.
        """
        try:
            await asyncio.wait_for(self._until(lambda: self.returncode is not None), timeout)
        except asyncio.TimeoutError:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None  # type: ignore[arg-type]
        assert self.returncode is not None
        return self.returncode

    async def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Sends the input, reads both streams to their end and waits; (stdout, stderr).

        Raises subprocess.TimeoutExpired as `wait` does; called again it goes on, and loses
        nothing.
        """
        self.collect()
        try:
            await asyncio.wait_for(self._exchange(input), timeout)
        except asyncio.TimeoutError:
            partial = (self.stdout.collected() or None) if self.stdout else None
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0, partial) from None  # type: ignore[arg-type]
        return self.collected()

    async def poll(self) -> int | None:
        """Its returncode, or None while it runs."""
        return self.returncode

    async def send_signal(self, number: int) -> None:
        """Sends a signal to its process group; nothing where it is over.

        Raises ValueError for what is no signal, and LinkLost.
        """
        wanted = signal_number(number)
        if not self._lifecycle.is_over:
            self._talk.send(Signal(self.id, wanted))

    async def terminate(self) -> None:
        """SIGTERM to its process group."""
        await self.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL to its process group."""
        await self.send_signal(signal.SIGKILL)

    def abandon(self) -> None:
        """The caller will not come back: ends it, first kindly."""
        if not self._lifecycle.is_over:
            try:
                self._talk.send(Terminate(self.id, CANCEL_GRACE))
            except LinkLost:
                pass  # the server ends it by itself when it misses us

    # --- for a caller that wants all of it at the end

    @property
    def fault(self) -> BaseException | None:
        """Why it did not start, or cannot be followed to its end."""
        return self._fault

    def collect(self, when_over: Callable[[], object] | None = None) -> None:
        """Takes both streams as they come; `when_over` is called once, in the loop."""
        self._when_over = when_over
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.collect()

    def collected(self) -> tuple[bytes | None, bytes | None]:
        """What came since `collect`: (stdout, stderr)."""
        out = self.stdout.collected() if self.stdout else None
        err = self.stderr.collected() if self.stderr else None
        return out, err

    # --- for the talk

    def handle(self, message: Message) -> None:
        """Takes the server's word on it."""
        if isinstance(message, Output):
            self._reader(message.stream).feed(message.offset, message.payload, message.eof)
        elif isinstance(message, InputTaken):
            if self.stdin is not None:
                self.stdin.acknowledge(message.offset, message.broken)
        elif isinstance(message, Started):
            self._lifecycle.move(Event.STARTED)
            self.pid = message.pid
        elif isinstance(message, StartFailed):
            self._lifecycle.move(Event.START_FAILED)
            self._fault = self._start_fault(message)
            self._finish()
        elif isinstance(message, Exited):
            self._exited(message)
        self._wake()

    def lost(self, fault: LinkLost) -> None:
        """The link is gone; it may still run."""
        if not self._lifecycle.is_over:
            self._lifecycle.move(Event.LOST)
            self._fault = fault
            self._finish(fault)
            self._wake()

    # --- inside

    def _exited(self, message: Exited) -> None:
        if self._lifecycle.state is not State.EXITED:
            self._lifecycle.move(Event.EXITED)
        self.timed_out = message.timed_out
        code = message.code if message.signal is None else -message.signal
        self.returncode = code
        if message.final:
            self._lifecycle.move(Event.DRAINED)
            self._finish()

    def _finish(self, fault: LinkLost | None = None) -> None:
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.end(fault)
        if self.stdin is not None:
            self.stdin.end(fault)
        self._talk.forget(self.id)
        when_over, self._when_over = self._when_over, None
        if when_over is not None:
            when_over()

    async def _exchange(self, data: bytes | None) -> None:
        if self.stdin is not None and self._feeding is None:
            if self.stdin.is_closed and data:
                raise ValueError("input for a stdin that was closed")
            # A task: a caller whose time ran out comes back, and it has gone on.
            feeding = self._feed(self.stdin, data or b"")
            self._feeding = asyncio.get_running_loop().create_task(feeding)
        if self._feeding is not None:
            await asyncio.shield(self._feeding)
        await self._until(lambda: self._lifecycle.is_over)

    async def _feed(self, stdin: InputWriter, data: bytes) -> None:
        try:
            if data:
                await stdin.write(data)
        except (BrokenPipeError, LinkLost):
            pass  # its exit status, or the lost link, says what became of it
        stdin.close()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self._fault is not None:
                raise self._fault
            news = asyncio.get_running_loop().create_future()
            self._news.append(news)
            try:
                await news
            finally:
                self._news.remove(news)
        if isinstance(self._fault, OSError):
            raise self._fault

    def _wake(self) -> None:
        for news in self._news:
            if not news.done():
                news.set_result(None)

    def _reader(self, stream: int) -> OutputReader:
        reader = {STDOUT: self.stdout, STDERR: self.stderr}.get(stream)
        return reader if reader is not None else OutputReader(lambda _: None)

    def _open(self, stream: int) -> OutputReader:
        def close() -> None:
            with contextlib.suppress(LinkLost):  # the server ends it by itself when it misses us
                self._talk.send(OutputClosed(self.id, stream))

        return OutputReader(self._taker(stream), close)

    def _taker(self, stream: int) -> Callable[[int], None]:
        def acknowledge(offset: int) -> None:
            try:
                self._talk.send(OutputTaken(self.id, stream, offset))
            except LinkLost:
                pass  # whoever reads on is told by its next read

        return acknowledge

    def _post_input(self, offset: int, data: bytes, eof: bool) -> None:
        self._talk.send(Input(self.id, offset, eof, data))

    def _start_fault(self, message: StartFailed) -> BaseException:
        if message.errno == errno.EINVAL and not message.filename:
            return ValueError(message.text)
        program: Sequence[str] = self._request.argv or ("",)
        return OSError(message.errno, message.text, message.filename or program[0])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._request.argv!r}: {self._lifecycle.state.value}>"
