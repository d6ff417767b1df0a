"""One shim, from its hello to the exit status of its command.

Carries bytes between the shim's socket and the command on the head, in both directions at
once, each only as fast as it is taken.  A shim that goes without having been told its status
was killed, and then its command ends as well.  Knows one shim and one bridge; what becomes
of other shims it does not feel.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

from ..client.bridge import AsyncBridge
from ..client.command import AsyncCommand
from ..client.listing_text import ID_DIGITS
from ..client.session import pauses
from ..client.streams import InputWriter, OutputReader
from ..errors import CommandGone, CommandLost, CommandServerError, LoginFailed, NoServer
from ..protocol.polls import POLLS, is_poll
from ..protocol.submission import submits
from . import wire
from .errand import Errand

__all__ = ["Guest", "Host"]

HELLO_SECONDS = 30.0  # from the connection to the whole hello, on a host that is very busy
PIECE = 64 * 1024
HELD_LIMIT = 4 * 1024 * 1024  # of a poll's answer, before it is handed on and not asked again
HANG_UP_SECONDS = 1.0  # between two looks at a shim whose input nobody takes
RESTART_SECONDS = 60.0  # for a server that is gone to be started again, by whoever does that

# How long a command has to end after its shim was killed, before it is killed as well: srun
# must find the time to tell the controller that its step is over.
LAST_WORDS_SECONDS = 8.0

# What ends a program that knows nothing better; where the command cannot be told, the shim.
_FATAL = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


class Host(Protocol):
    """Who receives shims."""

    bridge: AsyncBridge
    patience: float  # how long a poll is asked again
    waits_for_user: bool  # who may bring back a link that needs his answer
    on_failed_poll: Callable[[str, bytes], object]  # told the program, and what it said

    async def errand(self, hello: wire.Hello) -> Errand:
        """What it was called for; raises OSError where there is no such thing."""


class Guest:
    """One connection; `serve` it once, in a task."""

    def __init__(
        self, host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._command: AsyncCommand | None = None
        self._early: list[int] = []  # signals that came before it ran
        self._name = ""  # of the command, once the shim has told it
        self._working: asyncio.Future[None] | None = None
        self._running: asyncio.Future[Sequence[str]] | None = None  # with the head's own argv
        self._has_told = False  # the shim has got output, so nothing is asked again
        self._has_fed = False  # the shim has sent input
        self._input: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._draining = asyncio.Lock()  # two may not wait at once before Python 3.10

    async def serve(self) -> None:
        """Returns when the shim knows how its command ended, or is gone.

        Cancelled, it tells the shim so, and leaves the command to what becomes of the bridge.
        """
        frames = self._incoming()
        try:
            hello = await asyncio.wait_for(_hello(frames), HELLO_SECONDS)
        except (asyncio.TimeoutError, ValueError):
            return  # no shim of ours
        self._name = hello.command
        self._running = asyncio.get_running_loop().create_future()
        work = self._working = asyncio.ensure_future(self._work(hello))
        listening = asyncio.ensure_future(self._listen(frames))
        try:
            await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()  # what it did not expect is for the log
            else:
                self._give_up(listening.result())
        except asyncio.CancelledError:
            self._fault(wire.BRIDGE_FAULT, "The bridge was closed")
            raise
        finally:
            await _end(work, listening)

    async def part(self) -> None:
        """The bridge is about to be closed: what this shim has running goes on without it.

        Not what only asks, nor what was given but half of its input; and nothing where the
        shim was killed, for then it must end.
        """
        if self._working is None or self._running is None:
            return
        either: set[asyncio.Future[Any]] = {self._working, self._running}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        command = self._command
        if command is None or self._working.done() or not self._may_go_on(command):
            return
        if self._has_hung_up():
            self._give_up(0)
            return
        await command.detach()
        if not isinstance(command.fault, CommandGone):
            return  # it has just ended, or its link has: the shim is told that
        if self._has_hung_up():
            again = await self._host.bridge.attach(command.id)
            again.abandon(signal.SIGTERM, LAST_WORDS_SECONDS)
            return
        follow = f"`smartsim-bridge attach {command.id[:ID_DIGITS]}`"
        what = f"{self._name}: the bridge was closed, and the command goes on"
        self._fault(wire.BRIDGE_FAULT, f"{what} on {self._host.bridge.host}: {follow}")

    def _may_go_on(self, command: AsyncCommand) -> bool:
        """Whether it is to, and has all the input that it will ever have."""
        assert self._running is not None
        argv = self._running.result()
        if argv[0].rpartition("/")[2] in POLLS or submits(argv):
            return False  # who submits does go on, by another rule
        if command.stdin is None or command.stdin.is_closed:
            return True
        if not self._has_fed:
            command.stdin.close()  # as one reads it whose terminal is gone
        return not self._has_fed

    # --- from the shim

    async def _incoming(self) -> AsyncIterator[tuple[bytes, bytes]]:
        frames = wire.Frames()
        with suppress(ConnectionError):
            while data := await self._reader.read(PIECE):
                for one in frames.feed(data):
                    yield one

    async def _listen(self, frames: AsyncIterator[tuple[bytes, bytes]]) -> int:
        """Returns when the shim is gone, with 0, or is to end by a signal, with that."""
        with suppress(ValueError):  # who breaks the protocol is as good as gone
            async for kind, payload in frames:
                if kind == wire.INPUT:
                    self._has_fed = self._has_fed or bool(payload)
                    if not await self._take(payload):
                        break
                if kind == wire.SIGNAL:
                    number = int(payload)
                    if number in _FATAL and not self._can_tell:
                        return number
                    await self._tell(number)
        return 0

    @property
    def _can_tell(self) -> bool:
        return self._command is not None and self._host.bridge.is_linked

    async def _tell(self, number: int) -> None:
        if self._command is None:
            self._early.append(number)
        else:
            await self._command.send_signal(number)

    async def _take(self, data: bytes) -> bool:
        """Hands input on; False where the shim was killed while nobody took it."""
        while True:
            try:
                await asyncio.wait_for(self._input.put(data), HANG_UP_SECONDS)
            except asyncio.TimeoutError:
                if self._has_hung_up():
                    return False
            else:
                return True

    def _has_hung_up(self) -> bool:
        """Unlike the end of what it sends, this shows while there is something unread."""
        if self._writer.is_closing():
            return True
        look = select.poll()
        look.register(self._writer.get_extra_info("socket").fileno(), 0)
        return bool(look.poll(0))

    def _give_up(self, number: int) -> None:
        """The shim was killed, or ends by a signal that its command cannot be told of now."""
        if self._command is not None:
            self._command.abandon(number or signal.SIGTERM, LAST_WORDS_SECONDS)
        if number:
            self._say(wire.exit_frame(-number))

    # --- to the shim

    def _say(self, frame: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame)

    def _fault(self, status: int, text: str) -> None:
        self._say(wire.fault_frame(status, text))

    async def _hand_on(self, *pieces: tuple[bytes, bytes]) -> None:
        """Frames of a kind, and what they carry; said in one go, so that none overtakes another."""
        for kind, data in pieces:
            self._has_told = True
            self._say(wire.frame(kind, data))
        try:
            async with self._draining:
                await self._writer.drain()
        except ConnectionError:
            await asyncio.get_running_loop().create_future()  # who listens finds out

    # --- the command

    async def _work(self, hello: wire.Hello) -> None:
        name = hello.command
        try:
            self._say(wire.exit_frame(await self._outcome(hello)))
        except FileNotFoundError:
            self._fault(wire.NOT_FOUND, f"{name}: not found on {self._host.bridge.host}")
        except OSError as refused:
            what = f"{name}: {refused.strerror or refused} on {self._host.bridge.host}"
            self._fault(wire.NOT_EXECUTABLE, what)
        except CommandGone:
            pass  # whoever let go of it tells
        except (CommandServerError, ValueError) as fault:
            self._fault(wire.BRIDGE_FAULT, f"{name}: {fault}")

    async def _outcome(self, hello: wire.Hello) -> int:
        """Its exit status.  A poll whose answer was lost is asked again, as is what never ran."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for pause in pauses():
            await asyncio.sleep(pause)
            may_repeat = True
            try:
                errand = await self._host.errand(hello)
                may_repeat = is_poll(errand.argv)
                return await self._once(errand)
            except CommandServerError as fault:
                if self._has_told or loop.time() - began >= self._patience_with(fault, may_repeat):
                    raise
            except OSError as refused:
                if refused.errno not in _NOT_NOW or loop.time() - began >= self._restart_seconds:
                    raise
        raise AssertionError  # pauses have no end

    def _patience_with(self, fault: CommandServerError, may_repeat: bool) -> float:
        """For how many seconds it may be asked again."""
        if isinstance(fault, NoServer):  # then it was not even sent
            return self._restart_seconds
        is_lost = isinstance(fault, (CommandLost, LoginFailed))
        return self._host.patience if is_lost and may_repeat else 0.0

    @property
    def _restart_seconds(self) -> float:
        return min(self._host.patience, RESTART_SECONDS)

    async def _once(self, errand: Errand) -> int:
        command = await self._start(errand)
        self._command = command
        if self._running is not None and not self._running.done():
            self._running.set_result(errand.argv)
        for number in self._early:
            await command.send_signal(number)
        held = _Held(HELD_LIMIT if is_poll(errand.argv) else 0)
        flows = [
            self._pump(command.stdout, wire.OUTPUT, held),
            self._pump(command.stderr, wire.ERRORS, held),
        ]
        feeding = asyncio.ensure_future(self._feed(command.stdin, errand.input))
        try:
            await _all(*flows)
            returncode = await command.wait()
            answer = held.let_go()
            if answer and returncode > 0:
                said = b"".join(data for kind, data in answer if kind == wire.ERRORS)
                self._host.on_failed_poll(os.path.basename(errand.argv[0]), said)
            await self._hand_on(*answer)
            return returncode
        finally:
            await _end(feeding)

    async def _start(self, errand: Errand) -> AsyncCommand:
        bridge = self._host.bridge.on_behalf_of(
            errand.caller, waits_for_user=self._host.waits_for_user
        )
        has_input = errand.wants_input or errand.input is not None
        stdin = subprocess.PIPE if has_input else subprocess.DEVNULL
        cwd: str | None = errand.directory or None
        while True:
            try:
                return await bridge.popen(errand.argv, stdin=stdin, cwd=cwd, env=errand.environment)
            except OSError as refused:
                # A directory that only this host has: as after a login, at home.
                if cwd is None or refused.filename != cwd or refused.errno not in _NO_DIRECTORY:
                    raise
                cwd = None

    async def _pump(self, stream: OutputReader | None, kind: bytes, held: _Held) -> None:
        assert stream is not None
        while data := await stream.read(PIECE):
            if not held.take(kind, data):
                await self._hand_on(*held.let_go(), (kind, data))

    async def _feed(self, stdin: InputWriter | None, given: bytes | None) -> None:
        if stdin is None:
            return
        if given is None:
            self._say(wire.frame(wire.READ))
        with suppress(BrokenPipeError, CommandServerError):  # its end says what became of it
            if given is None:
                while data := await self._input.get():
                    await stdin.write(data)
            else:
                await stdin.write(given)
            stdin.close()
            return
        while await self._input.get():
            pass  # it reads no more; the shim need not know


# What keeps a command from being started at this moment: the server is stopping, its queue is
# full, or the head has no process, memory or descriptor to spare.
_NOT_NOW = (errno.ESHUTDOWN, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


class _Held:
    """The answer of a poll, kept until it is whole, or too long to be kept."""

    def __init__(self, limit: int) -> None:
        self._pieces: list[tuple[bytes, bytes]] = []
        self._room = limit

    def take(self, kind: bytes, data: bytes) -> bool:
        """Whether it was kept; once one piece was not, none is."""
        self._room -= len(data) if self._room > 0 else 0
        if self._room > 0:
            self._pieces.append((kind, data))
        return self._room > 0

    def let_go(self) -> list[tuple[bytes, bytes]]:
        pieces, self._pieces = self._pieces, []
        return pieces


async def _hello(frames: AsyncIterator[tuple[bytes, bytes]]) -> wire.Hello:
    """Raises ValueError where anything else comes, or nothing."""
    async for kind, payload in frames:
        if kind == wire.HELLO:
            return wire.parse_hello(payload)
        break
    raise ValueError("no hello")


async def _all(*flows: Coroutine[Any, Any, None]) -> None:
    """Waits for all of them; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(flow) for flow in flows]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _end(*tasks)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
