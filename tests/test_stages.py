from __future__ import annotations

import pytest

from smartsim_bridge.stages import Journey, Stage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stage_is_timed_and_told() -> None:
    clock, told = Clock(), list[Stage]()
    journey = Journey("login1", told.append, clock=clock)
    with journey.stage("connect") as note:
        clock.now += 2.5
        note.detail = "10.0.0.1"
    assert told == journey.stages == [Stage("connect", "login1", 2.5, "10.0.0.1")]


def test_block_that_raises_is_a_failed_stage() -> None:
    journey = Journey("login1", clock=Clock())
    with pytest.raises(KeyError), journey.stage("probe"):
        raise KeyError
    assert journey.stages == [Stage("probe", "login1", 0.0, failed=True)]


def test_stages_keep_their_order() -> None:
    journey = Journey("login1", clock=Clock())
    for name in ("resolve", "connect"):
        with journey.stage(name):
            pass
    assert [stage.name for stage in journey.stages] == ["resolve", "connect"]


def test_host_may_change_on_the_way() -> None:
    journey = Journey("alias", clock=Clock())
    with journey.stage("resolve"):
        journey.host = "login1.example.org"
    assert journey.stages[0].host == "login1.example.org"
