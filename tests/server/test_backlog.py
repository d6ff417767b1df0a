from __future__ import annotations

import asyncio
import errno
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.server.backlog import (
    BRIEF_PLACES,
    BURST_SECONDS,
    MAX_WAITING,
    Backlog,
    Pace,
    QueueFull,
)
from tests.support.loops import SECONDS, run
from tests.support.waiting import wait_until_async


class Sluice:
    """Hands out commands that note when they start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def command(self, name: str, over: Backlog | None = None) -> Named:
        return Named(name, self, over)

    def row(self, text: str) -> list[Named]:
        return [self.command(name) for name in text.split()]


class Named:
    """A command; with `over` it fails to start, and leaves that backlog at once."""

    def __init__(self, name: str, sluice: Sluice, over: Backlog | None = None) -> None:
        self.name = name
        self._sluice = sluice
        self._over = over

    def start(self) -> None:
        self._sluice.started.append(self.name)
        if self._over is not None:
            self._over.leave(self)

    def terminate(self, grace: float) -> None:
        raise AssertionError("a backlog ends nothing")

    def kill(self) -> None:
        raise AssertionError("a backlog ends nothing")


@pytest.fixture
def sluice() -> Sluice:
    return Sluice()


def test_a_brief_one_does_not_wait_for_long_ones(sluice: Sluice) -> None:
    backlog = Backlog(1)
    long, waits, question = sluice.row("long waits question")
    backlog.admit(long, "mine")
    assert backlog.admit(waits, "mine") == 1
    assert backlog.admit(question, "mine", is_brief=True) == 0
    assert sluice.started == ["long", "question"]
    backlog.leave(question)  # its place was no place of theirs
    assert sluice.started == ["long", "question"]
    backlog.leave(long)
    assert sluice.started == ["long", "question", "waits"]


def test_of_too_many_brief_ones_each_follows_when_one_is_over(sluice: Sluice) -> None:
    backlog = Backlog(1)
    backlog.admit(sluice.command("long"))
    crowd = [sluice.command(f"question {number}") for number in range(BRIEF_PLACES + 2)]
    for one in crowd:
        backlog.admit(one, is_brief=True)
    assert len(sluice.started) == 1 + BRIEF_PLACES
    backlog.leave(crowd[-1])  # given up while it waited
    backlog.leave(crowd[0])
    assert sluice.started[-1] == f"question {BRIEF_PLACES}"
    assert (backlog.running, backlog.waiting) == (1 + BRIEF_PLACES, 0)


def test_as_many_as_may_run_start_and_the_others_follow_in_order(sluice: Sluice) -> None:
    backlog = Backlog(2)
    row = sluice.row("a b c d e")
    assert [backlog.admit(command) for command in row] == [0, 0, 1, 2, 3]
    assert sluice.started == ["a", "b"]
    assert (backlog.running, backlog.waiting) == (2, 3)
    backlog.leave(row[1])
    assert sluice.started == ["a", "b", "c"]
    backlog.leave(row[0])
    backlog.leave(row[2])
    assert sluice.started == ["a", "b", "c", "d", "e"]
    assert (backlog.running, backlog.waiting) == (2, 0)
    assert repr(backlog) == "<Backlog: 2 run, 0 wait>"


def test_position_moves_up_as_others_end(sluice: Sluice) -> None:
    backlog = Backlog(1)
    first, second, third = sluice.row("a b c")
    for command in (first, second, third):
        backlog.admit(command)
    assert [backlog.position(command) for command in (first, second, third)] == [0, 1, 2]
    assert [backlog.is_waiting(command) for command in (first, second, third)] == [0, 1, 1]
    backlog.leave(first)
    assert [backlog.position(command) for command in (first, second, third)] == [0, 0, 1]


def test_one_that_is_no_longer_wanted_never_starts(sluice: Sluice) -> None:
    backlog = Backlog(1)
    first, second, third = sluice.row("a b c")
    for command in (first, second, third):
        backlog.admit(command)
    backlog.leave(second)
    assert backlog.commands == [third, first]
    backlog.leave(first)
    assert sluice.started == ["a", "c"]


def test_one_that_leaves_twice_gives_up_one_place(sluice: Sluice) -> None:
    backlog = Backlog(1, limit_each=1)
    row = sluice.row("a b c")
    for command in row:
        backlog.admit(command, "me")
    backlog.leave(row[0])
    backlog.leave(row[0])
    assert sluice.started == ["a", "b"]


def test_full_queue_refuses_one_more_and_knows_nothing_of_it(sluice: Sluice) -> None:
    backlog = Backlog(1, most_waiting=2)
    row = sluice.row("a b c")
    for command in row:
        backlog.admit(command)
    extra = sluice.command("extra")
    with pytest.raises(QueueFull) as refused:
        backlog.admit(extra)
    assert (refused.value.errno, refused.value.strerror) == (
        errno.EAGAIN,
        "the queue of 2 is full",
    )
    assert extra not in backlog.commands
    backlog.leave(row[0])
    assert backlog.admit(extra) == 2


def test_usual_queue_takes_ten_thousand(sluice: Sluice) -> None:
    backlog = Backlog(1)
    row = [sluice.command(str(number)) for number in range(1 + MAX_WAITING)]
    for command in row:
        backlog.admit(command)
    assert backlog.waiting == MAX_WAITING == 10_000
    with pytest.raises(QueueFull):
        backlog.admit(sluice.command("extra"))


def test_clients_with_waiting_commands_take_turns(sluice: Sluice) -> None:
    backlog = Backlog(1)
    first = sluice.command("a0")
    backlog.admit(first, "a")
    waiting = [(sluice.command(name), name[0]) for name in ["a1", "a2", "a3", "b1", "c1", "b2"]]
    for command, owner in waiting:
        backlog.admit(command, owner)
    backlog.leave(first)
    for name in ["a1", "b1", "c1", "a2", "b2", "a3"]:
        assert sluice.started[-1] == name
        backlog.leave(next(command for command, _ in waiting if command.name == name))
    assert not backlog.commands


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4), st.data())
def test_position_tells_how_many_end_before_it(
    owners: list[str], limit: int, data: st.DataObject
) -> None:
    sluice = Sluice()
    backlog = Backlog(limit)
    commands = {str(number): sluice.command(str(number)) for number in range(len(owners))}
    for command, owner in zip(commands.values(), owners):
        backlog.admit(command, owner)
    told = {name: backlog.position(command) for name, command in commands.items()}
    running = list(sluice.started)
    came_true = dict.fromkeys(running, 0)
    ended = 0
    while running:
        name = data.draw(st.sampled_from(running))
        running.remove(name)
        before = len(sluice.started)
        backlog.leave(commands[name])
        ended += 1
        for following in sluice.started[before:]:
            running.append(following)
            came_true[following] = ended
    assert told == came_true


def test_one_clients_excess_does_not_hold_up_another(sluice: Sluice) -> None:
    backlog = Backlog(3, limit_each=2)
    mine = sluice.row("a1 a2 a3 a4")
    assert [backlog.admit(command, "a") for command in mine] == [0, 0, 1, 2]
    theirs = sluice.command("b1")
    assert backlog.admit(theirs, "b") == 0
    assert sluice.started == ["a1", "a2", "b1"]
    backlog.leave(theirs)
    assert sluice.started == ["a1", "a2", "b1"]
    backlog.leave(mine[0])
    assert sluice.started == ["a1", "a2", "b1", "a3"]


def test_commands_of_nobody_have_no_bound_of_their_own(sluice: Sluice) -> None:
    backlog = Backlog(3, limit_each=1)
    for command in sluice.row("a b c d"):
        backlog.admit(command)
    assert sluice.started == ["a", "b", "c"]


class Model:
    """What must hold whatever comes and goes."""

    def __init__(self, limit: int, each: int) -> None:
        self.limit, self.each = limit, each
        self.sluice = Sluice()
        self.backlog = Backlog(limit, limit_each=each)
        self.here: dict[Named, str] = {}
        self.asked: list[tuple[str, str]] = []

    def come(self, owner: str) -> None:
        command = self.sluice.command(f"{owner}{len(self.asked)}")
        self.here[command] = owner
        self.asked.append((command.name, owner))
        position = self.backlog.admit(command, owner)
        assert (position > 0) == self.backlog.is_waiting(command)

    def go(self, index: int) -> None:
        command = list(self.here)[index % len(self.here)]
        del self.here[command]
        self.backlog.leave(command)

    def check(self) -> None:
        running = [command for command in self.here if not self.backlog.is_waiting(command)]
        of = {owner: sum(self.here[one] == owner for one in running) for owner in "abc"}
        assert len(running) == self.backlog.running <= self.limit
        assert max(of.values()) <= self.each
        for command, owner in self.here.items():
            if self.backlog.is_waiting(command):  # then there is a reason
                assert len(running) == self.limit or of[owner] == self.each
        for owner in "abc":  # each in the order it asked
            asked = [name for name, whose in self.asked if whose == owner]
            started = [name for name in self.sluice.started if name.startswith(owner)]
            assert started == [name for name in asked if name in started]


@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 50)), max_size=60),
)
def test_bounds_hold_and_nobody_waits_without_reason(
    limit: int, each: int, steps: list[str | int]
) -> None:
    model = Model(limit, each)
    for step in steps:
        if isinstance(step, str):
            model.come(step)
        elif model.here:
            model.go(step)
        model.check()
    while model.here:
        model.go(0)
        model.check()
    assert (model.backlog.running, model.backlog.waiting) == (0, 0)
    assert not model.backlog._running_of


def test_long_row_that_fails_to_start_is_no_deep_recursion(sluice: Sluice) -> None:
    backlog = Backlog(1, pace=Pace(1e6))
    first = sluice.command("first")
    backlog.admit(first)
    for number in range(5000):
        backlog.admit(sluice.command(str(number), over=backlog))
    backlog.leave(first)
    assert len(sluice.started) == 5001
    assert not backlog.commands


def test_one_that_fails_to_start_at_once_leaves_its_place(sluice: Sluice) -> None:
    backlog = Backlog(1)
    assert backlog.admit(sluice.command("a", over=backlog)) == 0
    assert backlog.admit(sluice.command("b")) == 0
    assert sluice.started == ["a", "b"]


def test_closed_backlog_starts_nothing_more(sluice: Sluice) -> None:
    backlog = Backlog(1)
    first, second = sluice.row("a b")
    backlog.admit(first)
    backlog.admit(second)
    backlog.is_closed = True
    backlog.leave(first)
    assert sluice.started == ["a"]
    assert backlog.commands == [second]


def test_wait_empty_returns_with_the_last_one_or_in_time(sluice: Sluice) -> None:
    async def wait() -> None:
        backlog = Backlog(2)
        first, second = sluice.row("a b")
        await asyncio.wait_for(backlog.wait_empty(600), SECONDS)
        backlog.admit(first)
        backlog.admit(second)
        await asyncio.wait_for(backlog.wait_empty(0.01), SECONDS)
        assert backlog.running == 2
        waiting = asyncio.ensure_future(backlog.wait_empty(600))
        await asyncio.sleep(0)
        backlog.leave(first)
        await asyncio.sleep(0)
        assert not waiting.done()
        backlog.leave(second)
        await asyncio.wait_for(waiting, SECONDS)

    run(wait())


# --- the rate


def starts(pace: Pace, now: float) -> int:
    """How many may start at that time."""
    count = 0
    while pace.take(now):
        count += 1
    return count


def test_pace_gives_a_burst_and_then_the_rate() -> None:
    pace = Pace(10, burst=5)
    assert starts(pace, 100.0) == 5
    assert starts(pace, 100.05) == 0
    assert pace.seconds() == pytest.approx(0.05)
    assert starts(pace, 100.125) == 1
    assert starts(pace, 200.0) == 5


def test_burst_is_what_the_rate_gives_in_two_seconds_and_at_least_one() -> None:
    assert starts(Pace(1000), 0.0) == 1000 * BURST_SECONDS == 2000
    slow = Pace(0.1)
    assert starts(slow, 0.0) == 1
    assert slow.seconds() == pytest.approx(10.0)


def test_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    pace = Pace(10, burst=2)
    assert starts(pace, 100.0) == 2
    assert starts(pace, 100.0) == 0
    assert starts(pace, 99.0) == 0
    assert starts(pace, 100.0) == 0


@given(st.floats(0.1, 1000), st.integers(1, 20), st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    pace = Pace(rate, burst=burst)
    now, given_out = 50.0, 0
    for pause in pauses:
        now += pause
        given_out += starts(pace, now)
        assert given_out <= burst + rate * (now - 50.0) + 1e-6


def is_ticking(backlog: Backlog) -> bool:
    """Whether it will wake the server up."""
    return backlog._timer is not None


class Slow:
    """A backlog that may start `burst` at once and then `rate` per second.

    Its clock stands still until `let_time_pass`: however long a test takes to fill it, the
    rate has given nothing yet.
    """

    def __init__(self, rate: float, burst: float, limit: int = 100) -> None:
        self.sluice = Sluice()
        self.backlog = Backlog(limit, pace=Pace(rate, burst=burst), clock=self.clock)
        self._since: float | None = None

    def clock(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since

    def let_time_pass(self) -> None:
        self._since = time.monotonic()

    def come(self, count: int, owner: str = "") -> list[Named]:
        row = [self.sluice.command(f"{owner}{number}") for number in range(count)]
        for command in row:
            assert self.backlog.admit(command, owner) == 0
        return row


def test_excess_of_the_rate_waits_its_turn_and_starts_by_itself() -> None:
    async def wait() -> None:
        slow = Slow(rate=100, burst=2)
        slow.come(12)
        assert slow.sluice.started == ["0", "1"]
        slow.let_time_pass()
        await wait_until_async(lambda: not slow.backlog.waiting)
        assert slow.clock() >= 0.099  # ten at a hundred per second
        assert slow.sluice.started == [str(number) for number in range(12)]
        assert not is_ticking(slow.backlog)

    run(wait())


def test_no_timer_runs_but_for_those_that_wait_for_the_rate() -> None:
    async def wait() -> None:
        slow = Slow(rate=0.01, burst=2, limit=1)
        (first,) = slow.come(1)
        assert not is_ticking(slow.backlog)
        second, third = slow.sluice.row("second third")
        slow.backlog.admit(second)
        slow.backlog.admit(third)
        assert not is_ticking(slow.backlog)  # they wait for the first, not for the rate
        slow.backlog.leave(first)
        slow.backlog.leave(second)
        assert slow.sluice.started == ["0", "second"]
        assert is_ticking(slow.backlog)
        slow.backlog.leave(third)
        assert not is_ticking(slow.backlog)

    run(wait())


def test_clients_take_turns_at_the_rate_too() -> None:
    async def wait() -> None:
        slow = Slow(rate=200, burst=1)
        slow.come(8, "a")
        slow.come(2, "b")
        slow.let_time_pass()
        await wait_until_async(lambda: not slow.backlog.waiting)
        assert slow.sluice.started[:5] == ["a0", "a1", "b0", "a2", "b1"]

    run(wait())


def test_closed_backlog_is_not_filled_by_the_clock() -> None:
    async def wait() -> None:
        slow = Slow(rate=100, burst=1)
        slow.come(3)
        slow.backlog.is_closed = True
        await wait_until_async(lambda: not is_ticking(slow.backlog))
        assert slow.sluice.started == ["0"]

    run(wait())
