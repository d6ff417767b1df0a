"""Where an agent is found, and whether it lives."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from smartsim_bridge.agent import place as module
from smartsim_bridge.agent.place import Place, State, place_of
from smartsim_bridge.errors import AgentFailed

STATE = State(pid=os.getpid(), version="1", target="login1", head="login1", since=1.0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    found = place_of({"addr": "login1"})
    found.make()
    return found


def test_the_same_wishes_have_the_same_place() -> None:
    assert place_of({"addr": "a", "port": 1}) == place_of({"port": 1, "addr": "a"})
    assert place_of({"addr": "a"}) != place_of({"addr": "b"})
    # A socket's path has 104 bytes at least; room for the agent's own below it.
    assert len(place_of({}).socket) < 70


def test_it_lives_as_long_as_it_holds_the_lock(place: Place) -> None:
    assert place.state() is None
    with place.held() as held:
        assert place.state() is None  # it has not said who it is
        place.write(held, STATE)
        assert place.state() == STATE
        with pytest.raises(AgentFailed, match="Another agent"), place.held():
            pass
    assert place.state() is None


def test_a_shorter_state_takes_the_place_of_a_longer(place: Place) -> None:
    with place.held() as held:
        for head in ("login1.cluster.example", "x"):
            said = State(1, "1", "login1", head, 1.0)
            place.write(held, said)
            assert place.state() == said


@pytest.mark.root
def test_what_somebody_else_wrote_is_not_believed(place: Place) -> None:
    """He might name a process of ours, to have us end it."""
    if os.getuid():
        pytest.skip("acting as a second user needs root")
    with place.held() as held:
        place.write(held, STATE)
        os.fchown(held, 12345, 12345)
        assert place.state() is None
        assert place.end() is None


@pytest.mark.root
def test_a_directory_of_somebody_elses_is_refused(place: Place) -> None:
    if os.getuid():
        pytest.skip("acting as a second user needs root")
    os.chown(place.directory, 12345, 12345)
    with pytest.raises(AgentFailed, match="not a directory of ours"):
        place.make()


def test_a_link_in_its_place_is_refused(place: Place, tmp_path: Path) -> None:
    os.rmdir(place.directory)
    os.symlink(tmp_path, place.directory)
    with pytest.raises(AgentFailed, match="not a directory of ours"):
        place.make()


def test_a_directory_that_is_open_to_others_is_closed(place: Place) -> None:
    os.chmod(place.directory, 0o777)
    place.make()
    assert os.stat(place.directory).st_mode & 0o777 == 0o700


def test_one_starts_and_the_others_hear_how_it_went(place: Place) -> None:
    with place.starting(1.0) as noted:
        with pytest.raises(AgentFailed, match="Another shim"), place.starting(0.05):
            pass
        place.note_failure({"what": "no way"})
    assert place.failure_since(noted) == {"what": "no way"}
    with place.starting(1.0) as noted:
        assert place.failure_since(noted) == {}
        place.note_failure({"what": "no way"})
    assert place.failure_since(noted) == {"what": "no way"}  # another one


def test_what_is_left_of_an_earlier_boot_is_no_news(place: Place) -> None:
    """The clock has begun anew, and /tmp was not emptied."""
    note = {"parts": {"what": "no way"}, "at": time.monotonic() + 1e6}
    Path(place.directory, "starting").write_text(json.dumps(note))
    with place.starting(1.0) as noted:
        assert place.failure_since(noted) == {}


def test_what_agents_of_other_targets_left_long_ago_is_taken_away(place: Place) -> None:
    old, fresh, serving = (place_of({"addr": name}) for name in ("old", "fresh", "serving"))
    for one in (old, fresh, serving):
        one.make()
        one.make_room(1)
        Path(one.log).touch()
    with serving.held() as held:
        serving.write(held, STATE)
        for one in (old, serving, place):
            Path(one.log).touch()
            for path in (one.log, *map(str, Path(one.directory).rglob("*")), one.directory):
                os.utime(path, (1.0, 1.0), follow_symlinks=False)
        place.clear_others()
        there = [one for one in (old, fresh, serving, place) if os.path.exists(one.directory)]
        assert there == [fresh, serving, place]
        assert serving.state() == STATE


def test_an_agent_whose_lock_was_removed_can_tell(place: Place) -> None:
    with place.held() as held:
        assert place.is_held_by(held)
        shutil.rmtree(place.directory)
        assert not place.is_held_by(held)
        place.make()
        with place.held() as other:
            assert place.is_held_by(other)
            assert not place.is_held_by(held)


def test_the_socket_points_at_the_last_and_away_from_nobody_else(place: Place) -> None:
    place.point_at("/one")
    place.point_at("/two")
    place.point_away("/one")
    assert os.readlink(place.socket) == "/two"
    place.point_away("/two")
    assert not os.path.lexists(place.socket)


def test_whoever_holds_the_lock_is_the_only_one_to_be_found(place: Place) -> None:
    """The socket of one that was killed is still there, and is nobody's."""
    place.point_at(place.make_room(1))
    assert os.path.exists(place.socket)
    with place.held():
        assert not os.path.lexists(place.socket)


def test_rooms_of_the_dead_are_cleared(place: Place) -> None:
    old = place.make_room(1)
    Path(old, "s").touch()
    new = place.make_room(2)
    assert os.listdir(os.path.dirname(new)) == ["2"]
