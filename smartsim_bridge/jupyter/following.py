"""One command on the head, its output in the running cell while it comes.

A thread for each stream reads; the main thread prints, because only what it prints goes
into its cell, and only it is interrupted.  Blocking; knows commands and where to print, not
magics.
"""

from __future__ import annotations

import codecs
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import IO, Any

from ..client.blocking import Bridge, Command
from ..errors import CommandServerError

__all__ = ["STDERR", "STDOUT", "Following", "feed", "in_thread"]

STDOUT, STDERR = 1, 2

PIECE = 64 * 1024
PIECES = 16  # read ahead of the front end; beyond that the command itself has to wait
QUIET_SECONDS = 2.0  # without a link, before the user is told: most come back sooner
GRACE_SECONDS = 3.0  # between INT, TERM and KILL: what has to tidy up needs more than a moment
LOOK_UP_SECONDS = 0.5  # Windows sees no interrupt while it waits


class Following:
    """Follows one command to its end; `follow` it once."""

    def __init__(
        self,
        bridge: Bridge,
        command: Command,
        show: Mapping[int, Callable[[str], object]],
        *,
        flush: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bridge = bridge
        self._command = command
        self._show = show
        self._flush = flush
        self._clock = clock
        self._pieces: queue.Queue[tuple[int, bytes]] = queue.Queue(PIECES)
        self._open = {STDOUT: command.stdout, STDERR: command.stderr}
        self._decoders = {
            one: codecs.getincrementaldecoder("utf-8")("replace") for one in self._open
        }
        self._is_left = threading.Event()
        self._interrupts = self._answered = 0
        self._steps = [lambda: command.send_signal(signal.SIGINT), command.terminate, command.kill]
        self._next_step_at = float("inf")
        self._is_linked = True  # set by the thread of the bridge
        self._tell_at = float("inf")
        self._was_told = False

    def follow(self) -> int:
        """Its returncode, negative for a signal.

        Raises KeyboardInterrupt, when it was interrupted and the command has ended or would
        not; CommandServerError where its end cannot be told.
        """
        try:
            self._bridge.when_link_changes(self._link_changed)
            for number, stream in self._open.items():
                if stream is not None:
                    in_thread(f"output {number}", partial(self._read, number, stream))
            returncode = None
            while returncode is None:
                returncode = self._pump()
        except _OutOfReach:
            raise KeyboardInterrupt from None
        finally:
            self._leave()
        if self._interrupts:
            raise KeyboardInterrupt
        return returncode

    # --- the main thread

    def _pump(self) -> int | None:
        """Shows what comes until it is over; None where an interrupt came between."""
        try:
            self._answer()  # here: the next may come while one is answered
            while self._open:
                self._handle_next()
            return self._command.wait()
        except KeyboardInterrupt:
            self._interrupts += 1
            return None

    def _handle_next(self) -> None:
        with suppress(queue.Empty):
            self._handle(*self._pieces.get(timeout=LOOK_UP_SECONDS))
            if self._pieces.empty():
                self._flush()
        now = self._clock()
        if now >= self._next_step_at:
            self._go_further()
        self._look_at_link(now)

    def _handle(self, number: int, data: bytes) -> None:
        """An empty piece is the end of its stream."""
        text = self._decoders[number].decode(data, final=not data)
        if text:
            self._show[number](text)
        if not data:
            del self._open[number]

    def _look_at_link(self, now: float) -> None:
        if self._is_linked:
            self._tell_at = float("inf")
            if self._was_told:
                self._was_told = False
                self._say("the link is back")
        elif not self._was_told:
            self._tell_at = min(self._tell_at, now + QUIET_SECONDS)
            if now >= self._tell_at:
                self._was_told = True
                self._say("the link was lost; looking for another ...")

    def _say(self, text: str) -> None:
        self._show[STDERR](f"%head: {text}\n")
        self._flush()

    def _answer(self) -> None:
        """Does what the interrupts ask for; what another one has broken off, once more.

        The second is an INT like the first: srun ends its step at two that come together.
        """
        while self._answered < self._interrupts:
            if self._answered == 1:
                with suppress(CommandServerError):
                    self._command.send_signal(signal.SIGINT)
            else:
                self._go_further()
            self._answered += 1

    def _go_further(self) -> None:
        """INT first; another interrupt, or time that passes, is less kind."""
        if not self._steps:
            raise _OutOfReach
        self._next_step_at = self._clock() + GRACE_SECONDS
        with suppress(CommandServerError):
            self._steps[0]()
        del self._steps[0]

    def _leave(self) -> None:
        self._is_left.set()
        with suppress(CommandServerError):
            self._bridge.stop_telling(self._link_changed)
        if self._command.returncode is None:
            with suppress(CommandServerError):
                self._command.kill()
        self._flush()

    # --- other threads

    def _read(self, number: int, stream: IO[Any]) -> None:
        # A lost link is told by `wait`, once.
        with suppress(CommandServerError, RuntimeError, ValueError):
            while data := stream.read1(PIECE):  # type: ignore[attr-defined]
                self._hand_over(number, data)
        self._hand_over(number, b"")

    def _hand_over(self, number: int, data: bytes) -> None:
        while not self._is_left.is_set():
            with suppress(queue.Full):
                self._pieces.put((number, data), timeout=LOOK_UP_SECONDS)
                return

    def _link_changed(self, is_linked: bool) -> None:
        self._is_linked = is_linked


class _OutOfReach(Exception):
    """It does not end by KILL; the server ends what nobody follows."""


def feed(command: Command, data: bytes) -> None:
    """Gives it its input and the end of it; waits while it does not read."""
    if command.stdin is None:
        return
    # BrokenPipeError and ValueError: the command reads no more, or is over.
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        command.stdin.write(data)
    with suppress(OSError, ValueError, CommandServerError, RuntimeError):
        command.stdin.close()


def in_thread(name: str, work: Callable[[], None]) -> None:
    """Does it in a daemon: a kernel that ends must not wait for the head."""
    threading.Thread(target=work, name=f"smartsim_bridge {name}", daemon=True).start()
