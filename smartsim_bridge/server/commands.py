"""One command of one client: bytes, numbers and states around a process.

Translates between the protocol's messages and a `Process`: numbers output, grants credit
for input, keeps both timers (time limit, grace), tells exit code and signal apart.  Where
the messages go is the session's business; here they are only `post`ed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping

from ..protocol.environment import command_environment
from ..protocol.flow import Receiving, Sending
from ..protocol.lifecycle import Input as Event
from ..protocol.lifecycle import Lifecycle, State
from ..protocol.messages import (
    STDERR,
    STDOUT,
    Exited,
    Input,
    InputTaken,
    Message,
    Output,
    Start,
    Started,
    StartFailed,
)
from .exits import ExitWatch
from .processes import Process

__all__ = ["Command", "Surroundings"]

SHELL = "/bin/sh"
END_SECONDS = 0.005  # the end of a stream is told on its own only if the exit does not follow

WASTE = 1 << 20  # bytes at a time of output that nobody will read


class Surroundings:
    """What all commands of one server share."""

    def __init__(
        self,
        environment: Mapping[str, str],
        watch: ExitWatch,
        directory: str,
        descriptor_limit: tuple[int, int] | None = None,
    ) -> None:
        # Encoded once: Popen would do it again for each command.
        self.environment = encoded(environment)
        self.watch = watch
        self.directory = directory
        self.descriptor_limit = descriptor_limit


def encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment as the system wants it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


class Command:
    """One command; `start` it once, then feed it the client's messages."""

    def __init__(
        self,
        request: Start,
        surroundings: Surroundings,
        post: Callable[[Message], None],
        on_over: Callable[[Command], None],
    ) -> None:
        self.id = request.command
        self.request = request
        self.lifecycle = Lifecycle()
        self._surroundings = surroundings
        self._post = post
        self._on_over = on_over
        self._process: Process | None = None
        self._sending = {STDOUT: Sending(), STDERR: Sending()}
        self._receiving = Receiving()
        self._unwanted: set[int] = set()  # streams whose reader has closed them
        self._early = bytearray()  # input that came while it waited for its turn
        self._timed_out = False
        self._is_unread = False
        self._timers: list[asyncio.TimerHandle] = []

    # --- what the client asks

    def start(self) -> None:
        """Starts the process, or says why it cannot be."""
        request = self.request
        argv = [SHELL, "-c", *request.argv] if request.shell else list(request.argv)
        try:
            self._process = self._spawn(argv, request)
        except OSError as refused:
            filename = refused.filename if isinstance(refused.filename, str) else ""
            self._fail(refused.errno or 0, refused.strerror or str(refused), filename)
        except (ValueError, TypeError, IndexError) as wrong:  # a NUL byte, an empty argv
            self._fail(errno.EINVAL, str(wrong), "")
        else:
            self.lifecycle.move(Event.STARTED)
            if request.announce:
                self._post(Started(self.id, self._process.pid))
            if request.timeout is not None:
                self._later(request.timeout, self._run_out)
            self._write(bytes(self._early))
            self._early.clear()
            for stream in self._unwanted:
                self._process.close_output(stream)

    def input(self, message: Input) -> None:
        """Bytes for stdin."""
        fresh = self._receiving.accept(message.offset, message.payload, message.eof)
        if self._process is None:
            self._early += fresh  # no more than the credit of one window
        else:
            self._write(fresh)

    def output_taken(self, stream: int, offset: int) -> None:
        """The client has that much, and room for as much again."""
        sending = self._sending.get(stream)
        if sending is not None:
            sending.acknowledge(offset)
            if self._process is not None:
                self._process.resume(stream)

    def close_output(self, stream: int) -> None:
        """The client reads that stream no more."""
        self._unwanted.add(stream)
        if self._process is not None:
            self._process.close_output(stream)

    def lose_reader(self) -> None:
        """Nobody will take what it prints.

        One that runs stops when its pipe is full, as before; what an ended one left there
        is thrown away, so that it can be over.
        """
        self._is_unread = True
        self._waste()

    def signal(self, number: int) -> None:
        """Sends a signal to the process group."""
        if self._process is not None and 0 < number < signal.NSIG:
            self._process.signal_group(number)

    def terminate(self, grace: float) -> None:
        """SIGTERM to the group, and SIGKILL to what is left of it after `grace` seconds.

        One that waits for its turn never gets it.
        """
        if self._process is None and not self.lifecycle.is_over:
            self._fail(errno.ECANCELED, os.strerror(errno.ECANCELED), "")
        elif self._process is not None and not self.lifecycle.is_over:
            self._process.signal_group(signal.SIGTERM)
            # A stopped process would take the SIGTERM only when somebody continues it.
            self._process.signal_group(signal.SIGCONT)
            self._later(max(0.0, grace), self._process.kill)

    def kill(self) -> None:
        """Ends it now."""
        if self._process is not None and not self.lifecycle.is_over:
            self._process.kill()

    # --- what the process does (processes.Owner)

    def room(self, stream: int) -> int:
        """How much more the client has granted."""
        return WASTE if self._is_waste else self._sending[stream].room

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        """Numbers it and sends it on."""
        if self._is_waste:
            return
        sending = self._sending[stream]
        offset = sending.take(data)
        if eof:
            sending.finish()
        if data:
            self._post(Output(self.id, stream, offset, payload=data))
        if eof:
            # Nearly always the process ends now too, and its final Exited tells both.
            self._later(END_SECONDS, lambda: self._post(Output(self.id, stream, offset, eof=True)))

    def input_written(self, count: int, broken: bool) -> None:
        """Grants the client as much again."""
        due = self._receiving.hand_on(count)
        if broken:
            self._post(InputTaken(self.id, self._receiving.acknowledgement(), broken=True))
        elif due is not None:
            self._post(InputTaken(self.id, due))

    def exited(self) -> None:
        """Tells it; what it wrote may still be on its way."""
        self.lifecycle.move(Event.EXITED)
        self._post(self._exit_message(final=False))
        self._waste()

    def drained(self) -> None:
        """Tells the end of it all."""
        if self.lifecycle.state is State.RUNNING:
            self.lifecycle.move(Event.EXITED)
        self.lifecycle.move(Event.DRAINED)
        self._post(self._exit_message(final=True))
        self._over()

    # --- inside

    def _spawn(self, argv: list[str], request: Start) -> Process:
        shared = self._surroundings
        asked = command_environment(argv[0], {}, request.env, request.keep_env)
        environment = {**shared.environment, **encoded(asked)}
        cwd = os.path.join(shared.directory, request.cwd) if request.cwd else shared.directory
        return Process(
            argv,
            self,
            shared.watch,
            cwd=cwd,
            environment=environment,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            descriptor_limit=shared.descriptor_limit,
        )

    @property
    def _is_waste(self) -> bool:
        return self._is_unread and self.lifecycle.state is State.EXITED

    def _waste(self) -> None:
        if self._is_waste and self._process is not None:
            for stream in self._sending:
                self._process.resume(stream)

    def _write(self, data: bytes) -> None:
        assert self._process is not None
        if data:
            self._process.write(data)
        if self._receiving.ended:
            self._process.end_input()

    def _fail(self, number: int, text: str, filename: str) -> None:
        self.lifecycle.move(Event.START_FAILED)
        self._post(StartFailed(self.id, number, text, filename))
        self._over()

    def _exit_message(self, final: bool) -> Exited:
        code = self._process.returncode if self._process is not None else None
        by_signal = code is not None and code < 0
        return Exited(
            self.id,
            code=None if by_signal else code,
            signal=-code if code is not None and by_signal else None,
            timed_out=self._timed_out,
            final=final,
        )

    def _run_out(self) -> None:
        self._timed_out = True
        self.kill()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, action))

    def _over(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._on_over(self)

    def __repr__(self) -> str:
        return f"<Command {self.id[:8]} {self.lifecycle.state.value}: {self._process}>"
