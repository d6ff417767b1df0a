"""One command on the head, as its caller sees it; async.

Made by `AsyncBridge.popen` or `attach`.  Its attributes and methods are those of
subprocess.Popen, awaited where they wait.  A lost link it does not feel: what it has said
and not heard answered it says again over the next one.  Knows the session that it goes
through, not how that came about.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import (
    CommandGone,
    CommandLost,
    CommandServerError,
    CommandTaken,
    LinkLost,
    NoServer,
    NoSuchCommand,
    PeerMisbehaved,
)
from ..protocol import codec
from ..protocol.lifecycle import IllegalMove, Lifecycle, State
from ..protocol.lifecycle import Input as Event
from ..protocol.messages import (
    NEVER_HEARD_OF,
    PIPE,
    STDERR,
    STDOUT,
    Attach,
    Attached,
    Detach,
    Detached,
    Exited,
    Input,
    InputTaken,
    Lost,
    Message,
    Output,
    OutputClosed,
    OutputTaken,
    Queued,
    Signal,
    Start,
    Started,
    StartFailed,
    Terminate,
)
from .request import signal_number
from .session import Session
from .streams import InputWriter, OutputReader
from .talk import AboutCommand

__all__ = ["AsyncCommand"]

CANCEL_GRACE = 2.0  # seconds between the signals to the command of a cancelled call
CONFIRM_SECONDS = 10.0  # for the server to have heard that it may go on alone


class AsyncCommand:
    """A command that runs, or ran, on the head."""

    def __init__(self, session: Session, request: Start | Attach, args: object) -> None:
        self.id = request.command
        self.args = args
        self.pid: int = 0
        self.returncode: int | None = None
        self.timed_out = False
        self.age = 0.0  # seconds by which the run was older that answered a poll
        self.waits_for_user = False  # where a lost link comes back by his answer only
        self.ahead = 0  # commands that had to run first, when the server said so
        self.stdin: InputWriter | None = None
        self.stdout: OutputReader | None = None
        self.stderr: OutputReader | None = None
        self._session = session
        self._request = request
        self._lifecycle = Lifecycle()
        self._was_sent = False
        self._is_known = False  # to the server: it has spoken of it
        self._is_asking = False  # over another link, what became of it; signals wait until told
        self._fault: BaseException | None = None
        self._signals: list[int] = []
        self._signals_before = 0  # that others have sent
        self._ending: Terminate | None = None
        self._news: list[asyncio.Future[None]] = []
        self._feeding: asyncio.Task[None] | None = None
        self._when_over: Callable[[], object] | None = None
        if isinstance(request, Start):
            self._open_streams((request.stdin, request.stdout, request.stderr), (0, 0, 0))

    # --- for the caller

    def request_start(self) -> None:
        """Asks for it; input may follow at once, before the answer.

        Raises OSError where the request is too large, and what stands in the way for good.
        """
        self._session.register(self.id, self)
        try:
            if not self._ask():
                codec.encode(self._request)  # what will not go later must fail now
        except ValueError as too_large:
            self._session.forget(self.id)
            raise OSError(errno.E2BIG, f"{os.strerror(errno.E2BIG)} ({too_large})") from None

    async def wait_started(self) -> None:
        """Returns when it runs; raises what subprocess.Popen would raise, or LinkLost."""
        await self._until(lambda: self._lifecycle.state is not State.REQUESTED)
        if self._fault is not None:
            raise self._fault

    async def wait_attached(self) -> None:
        """Returns when the server has said where it is.

        Raises NoSuchCommand, CommandLost, and OSError where it could not be started.
        """
        await self._until(lambda: self._is_known)
        if self._fault is not None:
            raise self._fault

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
        """Its returncode, or None while it runs; raises what `wait` raises."""
        if self.returncode is None and self._fault is not None:
            raise self._fault  # else who asks again and again would do so for ever
        return self.returncode

    async def send_signal(self, number: int) -> None:
        """Sends a signal to its process group, once; nothing where it is over.

        While there is no link it waits for the next one.  Raises ValueError for what is no
        signal.
        """
        wanted = signal_number(number)
        if not self._lifecycle.is_over and self._fault is None:
            self._signals.append(wanted)
            if not self._is_asking:
                self._session.send(Signal(self.id, wanted))

    async def terminate(self) -> None:
        """SIGTERM to its process group."""
        await self.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL to its process group."""
        await self.send_signal(signal.SIGKILL)

    async def detach(self) -> str:
        """Lets go of it: it runs on when this client is gone; gives the id for `attach`.

        Its streams end here, and every later call raises CommandGone.  Raises LinkLost where
        the server cannot be told.
        """
        self._session.spare(self.id)  # it may end before the server hears of this
        while not self._lifecycle.is_over and self._fault is None:
            await self._session.linked()
            self._session.send(Detach(self.id))
            with contextlib.suppress(LinkLost):  # lost on its way: said again
                await self._session.inquire(CONFIRM_SECONDS)
                break
        if self._fault is None and not self._lifecycle.is_over:
            self.lost(CommandGone(f"Detached from {self.id}", step="detach"))
        return self.id

    def abandon(self, number: int = signal.SIGTERM, grace: float = CANCEL_GRACE) -> None:
        """The caller will not come back: ends it, first kindly; never asked for, it never is."""
        if self._lifecycle.is_over or self._fault is not None:
            return
        if not self._was_sent:
            self.lost(CommandGone(f"{self.id} was given up before it was asked for"))
        else:
            self._ending = Terminate(self.id, grace, number)
            self._session.send(self._ending)

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

    # --- for the session (session.Listener)

    def handle(self, message: AboutCommand) -> None:
        """Takes the server's word on it; raises PeerMisbehaved."""
        if self._is_attaching and not isinstance(message, _ANSWERS):
            return  # meant for who followed it before, in this session
        try:
            _HANDLERS[type(message)](self, message)
        except IllegalMove as illegal:
            raise PeerMisbehaved(
                f"The server told of {self.id}: {illegal}", step="command"
            ) from None
        self._is_known = True
        self._wake()

    def resume(self, resumed: bool) -> None:
        """Another link: says again what may not have arrived."""
        if self._was_sent and not self._is_known and not resumed:
            text = "It was asked for, and the server that heard it is gone"
            self.lost(CommandLost(text, host=self._session.talk.welcome.host, step="reconnect"))
            return
        self._is_asking = self._is_known
        if self._ask():
            for stream, reader in ((STDOUT, self.stdout), (STDERR, self.stderr)):
                if reader is not None and reader.is_closed:
                    self._session.send(OutputClosed(self.id, stream))
            if self._ending is not None:
                self._session.send(self._ending)

    def lost(self, fault: CommandServerError) -> None:
        """No link comes any more; it may still run."""
        if self._lifecycle.is_over:
            return
        if isinstance(fault, NoServer) and self._was_sent:
            text = f"Its server is gone, and what became of it is unknown: {fault.what}"
            fault = CommandLost(text, host=fault.host, step=fault.step)
        self._lifecycle.move(Event.LOST)
        self._fault = fault
        self._finish(fault)
        self._wake()

    # --- inside

    def _ask(self) -> bool:
        """Says, or says again, what the server must know first; whether it went out.

        Raises ValueError where it is too large.
        """
        request: Message = self._request
        if self._is_known:
            out, err = (reader.taken if reader else 0 for reader in (self.stdout, self.stderr))
            request = Attach(self.id, out, err, resume=True)
        went_out = self._session.send(request)
        if went_out and self.stdin is not None:
            self.stdin.say_again()
        self._was_sent = self._was_sent or went_out
        return went_out

    def _attached(self, message: Attached) -> None:
        if self._is_attaching:
            self.args = list(message.argv)
            self._signals_before = message.signals
            begins = (message.stdin, message.stdout, message.stderr)
            self._open_streams(message.streams, begins)
        elif self._is_behind(message):
            # It cannot be made whole any more; others may have the rest.
            self._session.send(Detach(self.id))
            self._taken(Detached(self.id))
            return
        if message.pid:
            self._runs(message.pid)
        self._is_asking = False
        # Those that were sent into a link that broke.
        for number in self._signals[max(0, message.signals - self._signals_before) :]:
            self._session.send(Signal(self.id, number))

    @property
    def _is_attaching(self) -> bool:
        return isinstance(self._request, Attach) and not self._is_known

    def _is_behind(self, message: Attached) -> bool:
        """Whether somebody else has read from it, or written to it, meanwhile."""
        outputs = ((self.stdout, message.stdout), (self.stderr, message.stderr))
        for reader, begin in outputs:
            if reader is not None and not reader.is_closed and begin > reader.next:
                return True
        return self.stdin is not None and message.stdin > self.stdin.sent

    def _printed(self, message: Output) -> None:
        reader = {STDOUT: self.stdout, STDERR: self.stderr}.get(message.stream)
        if reader is not None:
            reader.feed(message.offset, message.payload, message.eof)

    def _took(self, message: InputTaken) -> None:
        if self.stdin is not None:
            self.stdin.acknowledge(message.offset, message.broken)

    def _queued(self, message: Queued) -> None:
        self.ahead = message.ahead

    def _started(self, message: Started) -> None:
        self._runs(message.pid)

    def _runs(self, pid: int) -> None:
        self.pid = pid
        if self._lifecycle.state is State.REQUESTED:
            self._lifecycle.move(Event.STARTED)

    def _failed(self, message: StartFailed) -> None:
        if not self._lifecycle.is_over:
            self._lifecycle.move(Event.START_FAILED)
            self._fault = self._start_fault(message)
            self._finish()

    def _exited(self, message: Exited) -> None:
        if self._lifecycle.is_over:
            return  # said again, after a link that broke at the very end
        if self._lifecycle.state is not State.EXITED:
            self._lifecycle.move(Event.EXITED)
        self.timed_out, self.age = message.timed_out, message.age
        code = message.code if message.signal is None else -message.signal
        self.returncode = code
        if message.final:
            self._lifecycle.move(Event.DRAINED)
            self._finish()

    def _taken(self, message: Detached) -> None:
        what = f"Another client follows {self.id} now"
        self.lost(CommandTaken(what, host=self._session.talk.welcome.host, step="attach"))

    def _unknown(self, message: Lost) -> None:
        host = self._session.talk.welcome.host
        if message.reason == NEVER_HEARD_OF and isinstance(self._request, Attach):
            self.lost(NoSuchCommand(f"There is no command {self.id}", host=host, step="attach"))
        else:
            self.lost(CommandLost(message.text, host=host, step="command"))

    def _finish(self, fault: CommandServerError | None = None) -> None:
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.end(fault)
        if self.stdin is not None:
            self.stdin.end(fault)
        self._session.forget(self.id, is_over=self._lifecycle.is_over)
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
        except (BrokenPipeError, CommandServerError):
            pass  # its exit status, or the fault, says what became of it
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

    def _wake(self) -> None:
        for news in self._news:
            if not news.done():
                news.set_result(None)

    def _open_streams(self, ways: Sequence[str], begins: Sequence[int]) -> None:
        if ways[0] == PIPE:
            self.stdin = InputWriter(self._post_input, begin=begins[0])
        if ways[1] == PIPE:
            self.stdout = self._open(STDOUT, begins[1])
        if ways[2] == PIPE:
            self.stderr = self._open(STDERR, begins[2])

    def _open(self, stream: int, begin: int) -> OutputReader:
        def acknowledge(offset: int) -> None:
            self._session.send(OutputTaken(self.id, stream, offset))

        def close() -> None:
            self._session.send(OutputClosed(self.id, stream))

        return OutputReader(acknowledge, close, begin=begin)

    def _post_input(self, offset: int, data: bytes, eof: bool) -> None:
        self._session.send(Input(self.id, offset, eof, data))

    def _start_fault(self, message: StartFailed) -> BaseException:
        if message.errno == errno.EINVAL and not message.filename:
            return ValueError(message.text)
        argv: Sequence[str] = self._request.argv if isinstance(self._request, Start) else ()
        program = message.filename or (argv[0] if argv else self.id)
        return OSError(message.errno, message.text, program)

    def __repr__(self) -> str:
        argv = self._request.argv if isinstance(self._request, Start) else self.args
        return f"<{type(self).__name__} {argv!r}: {self._lifecycle.state.value}>"


# To an Attach.
_ANSWERS = (Attached, Lost, StartFailed, Detached)

_HANDLERS: dict[type, Callable[[AsyncCommand, Any], None]] = {
    Output: AsyncCommand._printed,
    InputTaken: AsyncCommand._took,
    Queued: AsyncCommand._queued,
    Attached: AsyncCommand._attached,
    Started: AsyncCommand._started,
    StartFailed: AsyncCommand._failed,
    Exited: AsyncCommand._exited,
    Detached: AsyncCommand._taken,
    Lost: AsyncCommand._unknown,
}
