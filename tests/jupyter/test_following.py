"""A followed command that does not end, and a link that does: by the clock, without a kernel."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from smartsim_bridge.client.blocking import Bridge, Command
from smartsim_bridge.errors import CommandLost
from smartsim_bridge.jupyter import following
from smartsim_bridge.jupyter.following import STDERR, STDOUT, Following


class Stream:
    """Gives what is put into it; ends when the command does."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._is_over = False
        self._news = threading.Condition()

    def put(self, data: bytes) -> None:
        with self._news:
            self._pieces.append(data)
            self._news.notify_all()

    def end(self) -> None:
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def read1(self, size: int) -> bytes:
        with self._news:
            assert self._news.wait_for(lambda: self._pieces or self._is_over, timeout=20)
            return self._pieces.pop(0) if self._pieces else b""


class HeadCommand:
    """Ends by one of the signals in `ends_by`."""

    def __init__(self, *ends_by: int) -> None:
        self.stdout, self.stderr = Stream(), Stream()
        self.returncode: int | None = None
        self.signals: list[int] = []
        self.fault: Exception | None = None
        self._ends_by = ends_by

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        if number in self._ends_by:
            self.end(-number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def end(self, returncode: int | None) -> None:
        self.returncode = returncode
        self.stdout.end()
        self.stderr.end()

    def wait(self) -> int:
        if self.fault is not None:
            raise self.fault
        assert self.returncode is not None
        return self.returncode


class Place:
    """The cell, the bridge and the clock; each look at the clock does the next thing in `plan`."""

    def __init__(self, command: HeadCommand, *plan: Callable[[], object]) -> None:
        self.said = {STDOUT: "", STDERR: ""}
        self.now = 0.0
        self.tell_of_link: Callable[[bool], object] | None = None
        self._command = command
        self._plan = list(plan)

    def when_link_changes(self, tell: Callable[[bool], object]) -> None:
        self.tell_of_link = tell

    def stop_telling(self, tell: Callable[[bool], object]) -> None:
        assert tell == self.tell_of_link
        self.tell_of_link = None

    def clock(self) -> float:
        if self._plan:
            self._plan.pop(0)()
        return self.now

    def later(self, seconds: float) -> Callable[[], None]:
        def pass_by() -> None:
            self.now += seconds

        return pass_by

    def link(self, is_there: bool) -> Callable[[], None]:
        def change() -> None:
            assert self.tell_of_link is not None
            self.tell_of_link(is_there)

        return change

    def follow(self) -> int:
        def into(stream: int) -> Callable[[str], None]:
            return lambda text: self.said.update({stream: self.said[stream] + text})

        show = {one: into(one) for one in self.said}
        command, bridge = cast(Command, self._command), cast(Bridge, self)
        return Following(bridge, command, show, flush=lambda: None, clock=self.clock).follow()


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_UP_SECONDS", 0.01)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_what_does_not_listen_is_told_with_less_and_less_kindness() -> None:
    command = HeadCommand(signal.SIGKILL)
    place = Place(command)
    place._plan = [interrupt, *[place.later(1.0)] * 20]
    with pytest.raises(KeyboardInterrupt):
        place.follow()
    assert command.signals == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    assert 2 * following.GRACE_SECONDS <= place.now <= 4 * following.GRACE_SECONDS


def test_the_second_interrupt_is_like_the_first_and_the_third_is_not() -> None:
    command = HeadCommand(signal.SIGTERM)
    place = Place(command, interrupt, lambda: None, interrupt, interrupt)
    with pytest.raises(KeyboardInterrupt):
        place.follow()
    assert command.signals == [signal.SIGINT, signal.SIGINT, signal.SIGTERM]
    assert place.now == 0.0


def test_a_second_interrupt_while_the_first_is_passed_on_is_not_the_end() -> None:
    class Slow(HeadCommand):
        def send_signal(self, number: int) -> None:
            super().send_signal(number)
            if len(self.signals) == 1:
                raise KeyboardInterrupt

    command = Slow()
    nothing: Any = lambda: None  # noqa: E731
    place = Place(command, interrupt, nothing, nothing, lambda: command.end(-2))
    with pytest.raises(KeyboardInterrupt):
        place.follow()
    assert set(command.signals) == {signal.SIGINT}
    assert len(command.signals) >= 2


def test_a_command_out_of_reach_holds_nobody() -> None:
    command = HeadCommand()
    place = Place(command)
    place._plan = [interrupt, *[place.later(1.0)] * 20]
    with pytest.raises(KeyboardInterrupt):
        place.follow()
    assert place.now <= 5 * following.GRACE_SECONDS
    command.end(-9)


def test_a_link_that_stays_away_is_told_and_so_is_its_return() -> None:
    command = HeadCommand()
    place = Place(command)
    nothing: Any = lambda: None  # noqa: E731
    place._plan = [
        *(place.link(False), nothing, place.later(1.0), nothing, place.later(1.5), nothing),
        *(place.link(True), nothing, nothing, lambda: command.end(0)),
    ]
    assert place.follow() == 0
    assert place.said[STDERR].splitlines() == [
        "%head: the link was lost; looking for another ...",
        "%head: the link is back",
    ]
    assert place.tell_of_link is None


def test_a_short_loss_is_not_worth_a_word() -> None:
    command = HeadCommand()
    place = Place(command)
    nothing: Any = lambda: None  # noqa: E731
    place._plan = [
        *(place.link(False), nothing, place.later(1.0), place.link(True), nothing),
        *(place.later(5.0), nothing, lambda: command.end(0)),
    ]
    assert place.follow() == 0
    assert place.said[STDERR] == ""


def test_what_became_of_it_may_not_be_known() -> None:
    command = HeadCommand()
    command.fault = CommandLost("It was asked for, and the server is gone")
    place = Place(command, lambda: command.end(None))
    with pytest.raises(CommandLost):
        place.follow()
