"""How many commands run at once, how fast they start, and who waits for a turn.

Each takes a process and five descriptors of a host that others use too, so there are
bounds: on those that run, on those that wait, on starts per second, and, where the server
is told so, on those of one client.  Clients with waiting commands take turns: a thousand
of one do not hold up the one of another.  Brief ones have some places of their own: who
fills the server with commands that run for days must still see them, and end them.  At idle
no timer runs.

Knows that a command can be started, not what it is; `owner` is whatever tells clients apart.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Hashable
from typing import Protocol

__all__ = [
    "BRIEF_PLACES",
    "MAX_RATE",
    "MAX_RUNNING",
    "MAX_WAITING",
    "Backlog",
    "Pace",
    "QueueFull",
    "Startable",
]

MAX_RUNNING = 2048  # in one server, whatever its limit of open files
BRIEF_PLACES = 8  # beyond that: for questions to a scheduler, and for ending what runs
MAX_WAITING = 10_000  # usual ones take 4 KiB each; loops of users are shorter
MAX_RATE = 1000.0  # starts per second; the fastest client reaches it only with nothing to run
BURST_SECONDS = 2.0  # what may start at once after a rest: as much as the rate gives in that time
SHORTEST_WAIT = 0.005  # seconds; a wake-up for each of a thousand starts helps nobody


class Startable(Protocol):
    """What waits here.  The backlog starts it; who ends the server ends all `commands`."""

    def start(self) -> None:
        """Its turn has come; it may `leave` from within."""

    def terminate(self, grace: float) -> None:
        """Ends it, or sees to it that it never starts."""

    def kill(self) -> None:
        """Ends it now."""


class QueueFull(OSError):
    """So many wait already that one more is refused; EAGAIN, as the system says it."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EAGAIN, f"the queue of {limit} is full")


class Pace:
    """How many starts per second: a bucket of tokens, filled by time.  Pure: told the time."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST_SECONDS if burst is None else burst)
        self._tokens = self._burst
        self._filled = float("-inf")

    def take(self, now: float) -> bool:
        """Whether one may start now; it counts as started then."""
        if now > self._filled:
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def seconds(self, now: float | None = None) -> float:
        """How long after `now`, or the last `take`, the next one may start."""
        since = 0.0 if now is None else now - self._filled
        return max(0.0, (1.0 - self._tokens) / self._rate - since)


class Backlog:
    """Lets so many commands run at once, and holds the others until their turn.

    `limit_each` bounds those of one owner; None is nobody's bound.  Times are seconds.
    """

    def __init__(
        self,
        limit: int = MAX_RUNNING,
        *,
        limit_each: int | None = None,
        most_waiting: int = MAX_WAITING,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._most_waiting = most_waiting
        self._pace = pace or Pace(MAX_RATE)
        self._clock = clock
        self.is_closed = False  # the server ends: nothing more is started
        self._running: dict[Startable, Hashable] = {}  # and whose it is
        self._beyond: set[Startable] = set()  # brief ones that run though all places are taken
        self._brief: dict[Startable, None] = {}  # that wait for such a place, or for their turn
        self._waiting: dict[Startable, Hashable] = {}
        # The same that wait, by owner: those whose turn may come, the next first, and those
        # that have as many running as one may have.  No row is empty.
        self._rows: dict[Hashable, dict[Startable, None]] = {}
        self._held: dict[Hashable, dict[Startable, None]] = {}
        self._running_of: dict[Hashable, int] = {}  # counted only where there is a bound
        self._is_paused = False
        self._is_filling = False
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    # --- questions

    @property
    def _is_shut(self) -> bool:
        return self.is_closed or self._is_paused

    @property
    def _has_place(self) -> bool:
        return len(self._running) - len(self._beyond) < self._limit

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def commands(self) -> list[Startable]:
        """All that wait or run, of clients that are here and of those that are gone."""
        return [*self._waiting, *self._running]

    def is_waiting(self, command: Startable) -> bool:
        """Whether it was admitted and its turn has not come."""
        return command in self._waiting

    def position(self, command: Startable) -> int:
        """How many must end before it starts, as things are now; others may take turns.

        0 where it runs, is not known here, or where nothing but the rate holds it.
        """
        if command not in self._waiting:
            return 0
        owner = self._waiting[command]
        if owner in self._held:
            mine = self._held[owner]
            return max(1, _index(mine, command) + 1 - self._room_of(owner))
        running = len(self._running) - len(self._beyond)
        return max(0, self._turns_before(command, owner) + 1 - self._limit + running)

    async def wait_empty(self, seconds: float) -> None:
        """Returns when nothing runs any more, at the latest after `seconds`."""
        if self._running:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=seconds)

    # --- coming and going

    def admit(self, command: Startable, owner: Hashable = None, *, is_brief: bool = False) -> int:
        """Starts the command, now or at its turn; gives its `position`.

        Raises QueueFull, and then knows nothing of the command.
        """
        if (
            not self._is_paused
            and not self._rows
            and self._has_place
            and not self._is_bound(owner)
            and self._pace.take(self._clock())
        ):
            self._start(command, owner)
            return 0
        if len(self._waiting) >= self._most_waiting:
            raise QueueFull(self._most_waiting)
        self._waiting[command] = owner
        rows = self._held if self._is_bound(owner) else self._rows
        rows.setdefault(owner, {})[command] = None
        if is_brief:
            self._brief[command] = None
        self._turn()
        return self.position(command)

    def leave(self, command: Startable) -> None:
        """The command is over, or is no longer wanted."""
        if command in self._running:
            self._beyond.discard(command)
            self._let_go(self._running.pop(command))
        elif command in self._waiting:
            self._withdraw(command, self._waiting.pop(command))
        self._turn()
        if not self._running and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    # --- from one program to the next

    def pause(self) -> None:
        """Until `go_on` whatever is admitted waits."""
        self._is_paused = True

    def go_on(self) -> None:
        """Starts what may start."""
        self._is_paused = False
        self._turn()

    def adopt(self, command: Startable, owner: Hashable) -> None:
        """It runs already; the program that this process was before has started it."""
        self._running[command] = owner
        if self._limit_each is not None:
            self._running_of[owner] = self._running_of.get(owner, 0) + 1

    def hand_over(self) -> tuple[list[Startable], list[Startable]]:
        """What runs, to be adopted, and what waits, to be admitted again in this order."""
        rows = [*self._rows.values(), *self._held.values()]
        return list(self._running), [command for row in rows for command in row]

    # --- whose turn it is

    def _turn(self) -> None:
        # One that fails to start leaves from within its start: without the flag, a long row
        # of them would be as deep a recursion.
        if not self._is_filling:
            self._is_filling = True
            try:
                self._fill()
            finally:
                self._is_filling = False

    def _fill(self) -> None:
        while not self._is_shut:
            is_turn = bool(self._rows) and self._has_place
            if not is_turn and not (self._brief and len(self._beyond) < BRIEF_PLACES):
                return
            if not self._pace.take(self._clock()):
                self._wake_later()
                return
            if is_turn:
                self._start_next()
            else:
                self._start_beyond()

    def _start_next(self) -> None:
        owner, row = next(iter(self._rows.items()))
        command = next(iter(row))
        del self._waiting[command], row[command], self._rows[owner]
        self._brief.pop(command, None)
        if row:
            self._rows[owner] = row  # behind the others
        self._start(command, owner)

    def _start_beyond(self) -> None:
        command = next(iter(self._brief))
        owner = self._waiting.pop(command)
        self._withdraw(command, owner)
        self._beyond.add(command)
        self._start(command, owner)

    def _start(self, command: Startable, owner: Hashable) -> None:
        self._running[command] = owner
        if self._limit_each is not None:
            self._running_of[owner] = self._running_of.get(owner, 0) + 1
            if owner in self._rows and self._is_bound(owner):
                self._held[owner] = self._rows.pop(owner)
        command.start()

    def _let_go(self, owner: Hashable) -> None:
        if self._limit_each is None:
            return
        self._running_of[owner] -= 1
        if not self._running_of[owner]:
            del self._running_of[owner]
        if owner in self._held and not self._is_bound(owner):
            self._rows[owner] = self._held.pop(owner)

    def _withdraw(self, command: Startable, owner: Hashable) -> None:
        self._brief.pop(command, None)
        rows = self._rows if owner in self._rows else self._held
        del rows[owner][command]
        if not rows[owner]:
            del rows[owner]
        if not self._rows and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_bound(self, owner: Hashable) -> bool:
        """Whether as many of this owner run as one may have."""
        return self._limit_each is not None and owner is not None and self._room_of(owner) <= 0

    def _room_of(self, owner: Hashable) -> int:
        return (self._limit_each or 0) - self._running_of.get(owner, 0)

    def _turns_before(self, command: Startable, owner: Hashable) -> int:
        mine = self._rows[owner]
        before, others = _index(mine, command), 0
        turn = before + 1  # those whose turn is sooner have had one more
        for row in self._rows.values():
            if row is mine:
                turn = before
            else:
                others += min(len(row), turn)
        return before + others

    # --- the clock

    def _wake_later(self) -> None:
        if self._timer is None:
            seconds = max(SHORTEST_WAIT, self._pace.seconds())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._turn()

    def __repr__(self) -> str:
        return f"<Backlog: {len(self._running)} run, {len(self._waiting)} wait>"


def _index(row: dict[Startable, None], command: Startable) -> int:
    if next(reversed(row)) is command:
        return len(row) - 1  # it came just now: the usual question
    return list(row).index(command)
