from __future__ import annotations

import pytest

from smartsim_bridge.protocol import lifecycle
from smartsim_bridge.protocol.lifecycle import TABLE, IllegalMove, Input, Lifecycle, State
from tests.support.diagrams import drawn_rows, pictured_words, rows_of


@pytest.mark.parametrize("what", Input)
@pytest.mark.parametrize("state", State)
def test_every_pair_moves_as_the_table_says(state: State, what: Input) -> None:
    life = Lifecycle()
    life.state = state
    if (state, what) in TABLE:
        life.move(what)
        assert life.state is TABLE[state, what]
    else:
        with pytest.raises(IllegalMove, match=state.value):
            life.move(what)
        assert life.state is state


def test_lost_link_is_taken_in_every_state() -> None:
    assert all((state, Input.LOST) in TABLE for state in State)


def test_nothing_but_a_lost_link_follows_the_end() -> None:
    for state in (State.OVER, State.FAILED):
        assert [what for what in Input if (state, what) in TABLE] == [Input.LOST]
        assert TABLE[state, Input.LOST] is state


def test_usual_life_ends_over() -> None:
    life = Lifecycle()
    for what in (Input.STARTED, Input.EXITED, Input.DRAINED):
        assert not life.is_over
        life.move(what)
    assert life.is_over


def test_failed_start_is_over() -> None:
    life = Lifecycle()
    life.move(Input.START_FAILED)
    assert life.is_over


def test_unknown_command_can_still_be_told_of() -> None:
    life = Lifecycle()
    for what in (Input.STARTED, Input.LOST, Input.LOST, Input.EXITED, Input.DRAINED):
        life.move(what)
    assert life.state is State.OVER


def test_docstring_draws_the_table() -> None:
    assert drawn_rows(lifecycle) == rows_of(TABLE)
    assert pictured_words(lifecycle) == {state.name for state in State}


def test_repr_tells_the_state() -> None:
    assert repr(Lifecycle()) == "<Lifecycle: requested>"
