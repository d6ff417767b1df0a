"""One process whose output several commands have, each as if it were its own.

A `Run` owns the process and remembers what it printed, up to a bound, for those that join
it late.  A `Seat` is the place of one command at it, and is to the command what a `Process`
is: signals, the end of its time and closed outputs concern that command alone as long as
others sit there too.  Whoever sits alone has the process itself.

Must not know who may join when: that is the business of `polls`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from ..protocol.messages import STDERR, STDOUT
from .exits import ExitWatch
from .handover import Carry
from .processes import Owner, Process, ended

__all__ = ["REMEMBERED", "Guest", "Run", "Seat"]

# Of one stream.  A client without a word takes as much, so nobody is held up for one who
# does not read; whole sites are listed in less.
REMEMBERED = 1024 * 1024

# What does not end a process that knows nothing of signals, as these programs do.
_HARMLESS = frozenset(
    (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP,
     signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)  # fmt: skip


class Guest(Owner, Protocol):
    """Who has a seat: one that is told what the process does."""

    def spare(self, stream: int) -> int:
        """How many bytes can be kept for it though it is slow."""


class Run:
    """A process, and all who have what it prints; `on_closed` once nobody may join any more.

    With `lasts` a good answer may still be joined when the process is over.
    """

    def __init__(self, began: float, on_closed: Callable[[Run], None], *, lasts: bool) -> None:
        self.began = began
        self.seats: list[Seat] = []
        self.finished: set[int] = set()  # streams that have ended
        self.is_over = False
        self.process: Process
        self._printed = {STDOUT: bytearray(), STDERR: bytearray()}
        self._is_closed = False
        self._on_closed = on_closed
        self._lasts = lasts

    def start(self, start: Callable[[Owner], Process]) -> None:
        """Raises what Process raises."""
        self.process = start(self)

    def printed(self, stream: int) -> bytes:
        """All of it, for who joins."""
        return bytes(self._printed[stream])

    def close(self) -> None:
        """Nobody may join any more: what it printed is remembered for nobody."""
        if not self._is_closed:
            self._is_closed = True
            for printed in self._printed.values():
                printed.clear()
            self._on_closed(self)

    def is_only(self, seat: Seat) -> bool:
        """Whether nobody else has anything of it."""
        return self.seats == [seat]

    # --- what the process does (processes.Owner)

    def room(self, stream: int) -> int:
        """As much as the fastest would read, and can be kept for the others."""
        guests = [seat.guest for seat in self.seats if stream not in seat.closed]
        if not guests:
            return REMEMBERED  # nobody reads: it goes nowhere
        fastest = max(guest.room(stream) for guest in guests)
        if len(guests) == 1:
            return fastest
        return min(fastest, *(guest.spare(stream) for guest in guests))

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        """Everybody gets it."""
        printed = self._printed[stream]
        if len(printed) + len(data) > REMEMBERED:
            self.close()
        if not self._is_closed:
            printed += data
        if eof:
            self.finished.add(stream)
        for seat in list(self.seats):
            seat.output(stream, data, eof)

    def input_written(self, count: int, broken: bool) -> None:
        """It has no stdin."""

    def exited(self) -> None:
        """A child of it holds its output open: no answer that anybody could wait for."""
        self.close()
        for seat in list(self.seats):
            seat.guest.exited()

    def drained(self) -> None:
        """The answer is complete."""
        self.is_over = True
        seats, self.seats = self.seats, []
        if self.process.returncode != 0 or not self._lasts:
            self.close()
        for seat in seats:
            seat.end()


class Seat:
    """What a command has in place of a process; `take` it when the command is ready to hear.

    `age` says how many seconds the run was old when it was asked for.
    """

    def __init__(self, run: Run, guest: Guest, age: float = 0.0) -> None:
        self.age = age
        self.guest = guest
        self.closed: set[int] = set()  # streams that it reads no more
        self._run = run
        self._signal = 0  # that ended it before the run
        self._is_over = False

    @property
    def pid(self) -> int:
        """Of the process, which others may have as well."""
        return self._run.process.pid

    @property
    def returncode(self) -> int | None:
        """As in subprocess: negative for a signal, None while it runs."""
        return -self._signal if self._signal else self._run.process.returncode

    def take(self) -> None:
        """From now on it hears of the process, and first of all what it has missed."""
        run = self._run
        for stream in (STDOUT, STDERR):
            missed, is_finished = run.printed(stream), stream in run.finished
            if missed or is_finished:
                self.output(stream, missed, is_finished)
        if run.is_over:
            self.end()
        else:
            run.seats.append(self)

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        """What the process printed, where it is read."""
        if stream not in self.closed and not self._is_over:
            self.guest.output(stream, data, eof)

    def end(self) -> None:
        """Nothing more comes."""
        self._is_over = True
        self.guest.drained()

    # --- as a process has it

    def resume(self, stream: int) -> None:
        """The command has room again."""
        self._run.process.resume(stream)

    def close_output(self, stream: int) -> None:
        """Reads it no more; the process is not to know while others read."""
        if stream in self.closed or stream in self._run.finished or self._is_over:
            return
        if self._run.is_only(self):
            self._run.close()
            self._run.process.close_output(stream)
        else:
            self.closed.add(stream)
            self.guest.output(stream, b"", True)
            self._run.process.resume(stream)

    def write(self, data: bytes) -> None:
        """It has no stdin."""
        self.guest.input_written(len(data), True)

    def end_input(self) -> None:
        """It has no stdin."""

    def signal_group(self, number: int) -> None:
        """Sends a signal to whoever sits alone; else the command ends as if it had got it."""
        if self._run.is_only(self):
            self._run.close()
            self._run.process.signal_group(number)
        elif not self._is_over and number not in _HARMLESS:
            self._leave(number)

    def kill(self) -> None:
        """Ends it now."""
        if self._run.is_only(self):
            self._run.close()
            self._run.process.kill()
        elif not self._is_over:
            self._leave(signal.SIGKILL)

    def _leave(self, number: int) -> None:
        if self.returncode is None:
            self._signal = number
        self._run.seats.remove(self)
        for stream in {STDOUT, STDERR} - self.closed - self._run.finished:
            self.guest.output(stream, b"", True)
            self._run.process.resume(stream)  # it may have been the one that was waited for
        self.end()

    # --- from one program to the next

    def hand_over(self, carry: Carry) -> dict[str, Any]:
        """As a process does; one that others share says which, with the first of them."""
        run = self._run
        if self._is_over:
            return ended(self.pid, self.returncode)
        if run.is_only(self) and not self.closed:
            return run.process.hand_over(carry)
        first = run.process.hand_over(carry) if run.seats[0] is self else None
        return {
            "run": id(run),
            "process": first,
            "finished": sorted(run.finished),
            "closed": sorted(self.closed),
            "age": self.age,
        }

    @classmethod
    def take_over(
        cls, past: dict[str, Any], guest: Guest, watch: ExitWatch, runs: MutableMapping[int, Run]
    ) -> Seat:
        """The seat as another program has left it; `runs` are those that were met before."""
        if past["process"] is not None:
            runs[past["run"]] = run = Run(0.0, lambda _: None, lasts=False)
            run.close()
            run.finished = set(past["finished"])
            run.process = Process.take_over(past["process"], run, watch)
        self = cls(runs[past["run"]], guest, past["age"])
        self.closed = set(past["closed"])
        self._run.seats.append(self)
        return self

    def __repr__(self) -> str:
        others = max(0, len(self._run.seats) - 1)
        return f"<Seat beside {others} others: {self._run.process}>"
