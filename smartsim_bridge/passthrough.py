"""One command on the head with this process's own stdin, stdout, stderr and signals.

What `smartsim-bridge run` and `attach` do.  Two threads copy what the command prints, one
what it reads, one waits for its end; the main thread waits at the bell, so that no signal
and no news of the link finds it busy.  Blocking; knows commands and descriptors, not the
command line.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from .client.blocking import Bridge, Command
from .errors import CommandGone, CommandServerError
from .signals import Bell, Interrupts

__all__ = ["Passage"]

PIECE = 64 * 1024
LEAVE_SECONDS = 5.0  # for the server to hear that the command shall go on
FLUSH_SECONDS = 1.0  # for what came to be written, where more will not come
QUIET_SECONDS = 2.0  # without a link, before the user is told: most come back sooner

# What the bell says besides the numbers of signals.
OVER, LINK_LOST, LINK_BACK = 128, 129, 130


class Passage:
    """Follows one command to its end, or until the user leaves it; `follow` it once.

    `say` prints a line for the user.  What `stays` lives longer than terminals do: where ours
    is closed it is left running.
    """

    def __init__(
        self,
        bridge: Bridge,
        command: Command,
        say: Callable[[str], None],
        *,
        stays: bool = False,
        quiet: float = QUIET_SECONDS,
    ) -> None:
        self._bridge = bridge
        self._command = command
        self._say = say
        self._stays = stays
        self._quiet = quiet
        self._interrupts = Interrupts(time.monotonic)
        self._lost_at: float | None = None  # and nobody was told yet
        self._was_told = False
        self._leave_by: float | None = None
        self._is_done = False
        self._ended_by = 0  # a signal that came when the command had ended
        self._outcome: int | BaseException | None = None
        self._outlets: list[_Outlet] = []

    def follow(self) -> int | None:
        """Its returncode, negative for a signal; None where it was left running.

        Raises CommandServerError where its end cannot be told, or output was lost.
        """
        with Bell() as bell:
            self._bell = bell
            self._bridge.when_link_changes(self._ring_for_link)
            command = self._command
            self._outlets = [_Outlet(command.stdout, 1), _Outlet(command.stderr, 2)]
            # A daemon: it may wait at a terminal for a line that nobody will type any more.
            _in_thread("stdin", lambda: _feed(command))
            _in_thread("end", self._wait_for_end)
            try:
                self._attend()
            finally:
                with suppress(CommandServerError):
                    self._bridge.stop_telling(self._ring_for_link)
        return self._result()

    # --- the main thread

    def _attend(self) -> None:
        """Does what the bell says, until the command is over or left."""
        while not self._is_done:
            rung = self._bell.wait(self._patience())
            if rung == OVER:
                return
            if rung in (LINK_LOST, LINK_BACK):
                self._link_changed(rung == LINK_BACK)
            elif rung is not None:
                self._signalled(rung)
            self._look_at_the_clock()

    def _patience(self) -> float | None:
        """Seconds until there is something to do without being told."""
        moments = [] if self._lost_at is None else [self._lost_at + self._quiet]
        moments += [] if self._leave_by is None else [self._leave_by]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._leave_by is not None and now >= self._leave_by:
            self._is_done = True
        if self._lost_at is not None and now >= self._lost_at + self._quiet:
            self._lost_at, self._was_told = None, True
            self._say("the link was lost; looking for another ...")

    def _signalled(self, number: int) -> None:
        if self._command.returncode is not None:
            # What is left of it may still print; else it is we who cannot write.
            self._pass_on(number)
            if not self._ended_by:
                self._ended_by = number
                self._leave_by = time.monotonic() + FLUSH_SECONDS
        elif number == signal.SIGINT:
            self._interrupted()
        elif number == getattr(signal, "SIGHUP", None) and self._stays:
            self._leave()
        else:
            self._pass_on(number)

    def _interrupted(self) -> None:
        """The first two are for the command, the third lets it go, one more does not wait."""
        count = self._interrupts.another()
        if count == 1:
            self._pass_on(signal.SIGINT)
        elif count == 2:
            self._say("SIGTERM was sent; once more, and the command is left running")
            self._pass_on(signal.SIGTERM)
        elif count == 3:
            self._leave()
        else:
            self._is_done = True

    def _pass_on(self, number: int) -> None:
        with suppress(CommandServerError):
            self._command.send_signal(number)

    def _leave(self) -> None:
        """Asks the server to let it go on; its answer ends the waiting, else the time does."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + LEAVE_SECONDS
            _in_thread("leave", self._detach)

    def _link_changed(self, is_back: bool) -> None:
        if not is_back:
            self._lost_at = time.monotonic()
            return
        self._lost_at = None
        if self._was_told:
            self._was_told = False
            self._say("the link is back")

    def _result(self) -> int | None:
        outcome = self._outcome
        if isinstance(outcome, int):
            for outlet in self._outlets:
                outlet.check()
            return outcome
        if outcome is None and self._ended_by:
            return -self._ended_by
        if outcome is None:
            self._say("the server could not be told, and may end the command if nobody comes back")
        elif self._leave_by is None or not isinstance(outcome, CommandGone):
            raise outcome
        return None

    # --- other threads

    def _wait_for_end(self) -> None:
        try:
            returncode = self._command.wait()
            for outlet in self._outlets:
                outlet.join()
            self._outcome = returncode
        except Exception as fault:  # noqa: BLE001 - it belongs to the main thread
            for outlet in self._outlets:
                outlet.join(FLUSH_SECONDS)
            self._outcome = fault
        self._bell.ring(OVER)

    def _detach(self) -> None:
        # Where nobody can be told, the time that was set for it ends the waiting.
        with suppress(CommandServerError, RuntimeError):
            self._command.detach()

    def _ring_for_link(self, is_linked: bool) -> None:
        self._bell.ring(LINK_BACK if is_linked else LINK_LOST)


class _Outlet:
    """Copies one stream of the command to one of our descriptors, in a thread of its own.

    Where it cannot write, it closes the stream, and the command gets SIGPIPE, as from a pipe.
    """

    def __init__(self, stream: IO[Any] | None, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._fault: OSError | None = None
        self._thread = _in_thread(f"output {descriptor}", self._copy)

    def join(self, seconds: float | None = None) -> None:
        """Waits until everything is written, at most so long."""
        self._thread.join(seconds)

    def check(self) -> None:
        """Raises CommandServerError where output was lost; a reader that left wants none."""
        if self._fault is not None and not isinstance(self._fault, BrokenPipeError):
            raise CommandServerError(
                f"Cannot write what the command printed: {self._fault.strerror}",
                step=f"descriptor {self._descriptor}",
                advice="The command ran, and its output was lost from there on.",
            )

    def _copy(self) -> None:
        # A lost link is told by `wait`, once.
        with suppress(CommandServerError, RuntimeError):
            while self._stream is not None:
                data = self._stream.read1(PIECE)  # type: ignore[attr-defined]
                if not data:
                    return
                try:
                    self._write(data)
                except OSError as fault:
                    self._fault = fault
                    self._stream.close()
                    return

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


def _feed(command: Command) -> None:
    stdin = command.stdin
    if stdin is None:
        return
    # BrokenPipeError and ValueError: the command reads no more, or is over.
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        while data := os.read(0, PIECE):
            stdin.write(data)
            stdin.flush()
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        stdin.close()


def _in_thread(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
