"""Which run answers a poll: one in flight, one that is over and young enough, or its own.

A poll sees what its user has done.  So nobody joins a run that began before a command of
this server that may have changed something was started, printed or ended.  Nor does what a
session learnt from one poll go back in the next: it joins no run that began before.

Equal polls of several who ask at once, and faster than a scheduler should be asked, wait a
moment for a common run.  Whoever asks one after the other never waits.
Must not know what a poll prints; which commands are polls is in `protocol.polls`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from ..protocol.polls import Key
from .backlog import Pace
from .exits import ExitWatch
from .processes import Owner, Process
from .runs import Guest, Run, Seat

__all__ = ["Polls"]

MAX_OPEN = 64  # runs and answers to join, of up to two MiB each
MAX_LEARNT = 1024  # sessions remembered; an administrator's host has a dozen
MAX_PACED = 256  # questions whose pace is known; the oldest may be asked anew

# Runs of one question that several ask: so many at once, then so many per second.  A hundred
# shims take a second or two to start, and squeue 20 ms: joining alone would leave dozens of runs.
BURST, RATE = 3, 1.0
CROWD_SECONDS = 1.0  # for so long after two have asked at once there may be more of them


class _Question:
    """How often one question was asked of late, and whether by several at once."""

    def __init__(self) -> None:
        self._pace = Pace(RATE, BURST)
        self._askers: set[str] = set()
        self._crowded_until = float("-inf")

    def enter(self, asker: str) -> None:
        self._askers.add(asker)

    def leave(self, asker: str, now: float) -> None:
        if len(self._askers) > 1:
            self._crowded_until = now + CROWD_SECONDS
        self._askers.discard(asker)

    def count(self, now: float) -> None:
        self._pace.take(now)  # or one too many: it was told when to come

    def seconds(self, now: float) -> float:
        is_crowded = len(self._askers) > 1 or now < self._crowded_until
        return self._pace.seconds(now) if is_crowded else 0.0


class Polls:
    """The runs that may be joined; `cache` is for how many seconds an answer counts."""

    def __init__(self, cache: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.cache = cache
        self.asked = 0
        self.joined = 0
        self._clock = clock
        self._open: dict[Key, Run] = {}  # oldest first
        self._learnt: dict[str, float] = {}  # when a session last heard anything
        self._questions: dict[Key, _Question] = {}  # what was asked last
        self._adopted: WeakValueDictionary[int, Run] = WeakValueDictionary()

    def seat(self, key: Key, guest: Guest, session: str, start: Callable[[Owner], Process]) -> Seat:
        """A place at the run that answers it.  Raises what `start` raises."""
        self.asked += 1
        now = self._clock()
        run = self._open_to(key, session, now)
        if run is None:
            return Seat(self._begin(key, now, start), guest)
        self.joined += 1
        return Seat(run, guest, now - run.began)

    def enter(self, key: Key, asker: str) -> None:
        """A command that asks this has come; it waits, or has a seat, until it leaves."""
        question = self._questions.pop(key, None) or _Question()
        self._questions[key] = question  # the youngest now
        question.enter(asker)
        if len(self._questions) > MAX_PACED:
            del self._questions[next(iter(self._questions))]

    def leave(self, key: Key, asker: str) -> None:
        """The command is over."""
        if key in self._questions:
            self._questions[key].leave(asker, self._clock())

    def seconds_before(self, key: Key, session: str) -> float:
        """How long it should wait for a run that others wait for, too."""
        now = self._clock()
        question = self._questions.get(key)
        if question is None or self._open_to(key, session, now) is not None:
            return 0.0
        return question.seconds(now)

    def learn(self, session: str) -> None:
        """A session hears what some poll has to say."""
        if self._open:
            self._learnt[session] = self._clock()
            if len(self._learnt) > MAX_LEARNT:
                self.outdate()

    def outdate(self) -> None:
        """Something may have changed, or somebody may know that it has."""
        if self._open:
            for run in list(self._open.values()):
                run.close()

    def tidy(self) -> None:
        """Now and then: forgets answers that are too old."""
        now = self._clock()
        for run in list(self._open.values()):
            if run.is_over and not self._is_young(run, now):
                run.close()

    def take_over(self, past: dict[str, Any], guest: Guest, watch: ExitWatch) -> Seat:
        """A seat that another program has handed over; nobody joins its run any more."""
        return Seat.take_over(past, guest, watch, self._adopted)

    # --- inside

    def _open_to(self, key: Key, session: str, now: float) -> Run | None:
        run = self._open.get(key)
        if run is None:
            return None
        if run.is_over:
            return run if self._is_young(run, now) else None
        return run if run.began >= self._learnt.get(session, 0.0) else None

    def _is_young(self, run: Run, now: float) -> bool:
        return now - run.began < self.cache

    def _begin(self, key: Key, now: float, start: Callable[[Owner], Process]) -> Run:
        if not self._open:
            self._learnt.clear()  # all of it is older than this run

        def closed(run: Run) -> None:
            if self._open.get(key) is run:
                del self._open[key]

        run = Run(now, closed, lasts=bool(self.cache))
        run.start(start)
        if key in self._questions:
            self._questions[key].count(now)
        former = self._open.get(key)
        if former is not None:
            former.close()
        elif len(self._open) >= MAX_OPEN:
            next(iter(self._open.values())).close()
        self._open[key] = run
        return run

    def __repr__(self) -> str:
        return f"<Polls: {self.joined} of {self.asked} joined, {len(self._open)} open>"
