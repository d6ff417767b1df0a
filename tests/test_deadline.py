from __future__ import annotations

from smartsim_bridge.deadline import Deadline


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_runs_out() -> None:
    clock = Clock()
    deadline = Deadline(5, clock=clock)
    assert (deadline.left, deadline.is_over) == (5.0, False)
    clock.now += 4
    assert (deadline.left, deadline.is_over) == (1.0, False)
    clock.now += 4
    assert (deadline.left, deadline.is_over) == (0.0, True)


def test_no_limit_never_comes() -> None:
    clock = Clock()
    deadline = Deadline(None, clock=clock)
    clock.now += 1e9
    assert (deadline.left, deadline.is_over) == (float("inf"), False)
    assert deadline.at_most(3) == 3


def test_step_takes_no_more_than_its_own_limit() -> None:
    clock = Clock()
    step = Deadline(60, clock=clock).within(5)
    assert step.left == 5
    clock.now += 6
    assert step.is_over


def test_step_takes_no_more_than_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline(10, clock=clock)
    clock.now += 8
    assert deadline.at_most(5) == 2
    assert deadline.within(5).left == 2


def test_negative_limit_is_over_at_once() -> None:
    assert Deadline(-1, clock=Clock()).is_over


def test_repr_tells_what_is_left() -> None:
    assert repr(Deadline(5, clock=Clock())) == "Deadline(5.0 s left)"


def test_time_spent_typing_does_not_count() -> None:
    clock = Clock()
    deadline = Deadline(5, clock=clock)
    clock.now += 1
    with deadline.paused():
        clock.now += 60
    assert deadline.left == 4.0


def test_no_limit_can_be_paused() -> None:
    with Deadline(None).paused():
        pass
