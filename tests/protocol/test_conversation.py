from __future__ import annotations

import pytest

from smartsim_bridge.errors import PeerMisbehaved
from smartsim_bridge.protocol import conversation
from smartsim_bridge.protocol.conversation import TABLE, Conversation, Input, Side, State
from smartsim_bridge.protocol.messages import FROM_CLIENT, FROM_SERVER, Message
from tests.protocol.samples import ONE_OF_EACH
from tests.support.diagrams import drawn_rows, pictured_words, rows_of

SAMPLES = {type(one).__name__: one for one in ONE_OF_EACH}
HELLO, WELCOME, BYE = SAMPLES["Hello"], SAMPLES["Welcome"], SAMPLES["Bye"]
MEANT: dict[Input, Message] = {
    Input.HELLO: HELLO,
    Input.WELCOME: WELCOME,
    Input.REFUSAL: SAMPLES["Refusal"],
    Input.REQUEST: SAMPLES["Start"],
    Input.ANSWER: SAMPLES["Output"],
    Input.BYE: BYE,
}


def talk_in(state: State, side: Side) -> Conversation:
    talk = Conversation(side)
    talk.state = state
    return talk


def give(talk: Conversation, what: Input) -> None:
    """Lets it happen, from whichever end says such a thing."""
    if what is Input.LOST:
        talk.lost()
        return
    message = MEANT[what]
    is_ours = (type(message) in FROM_CLIENT) == (talk.side is Side.CLIENT)
    (talk.sent if is_ours else talk.received)(message)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("what", Input)
@pytest.mark.parametrize("state", State)
def test_every_pair_moves_as_the_table_says(state: State, what: Input, side: Side) -> None:
    talk = talk_in(state, side)
    if (state, what) in TABLE:
        give(talk, what)
        assert talk.state is TABLE[state, what]
    else:
        with pytest.raises(PeerMisbehaved) as refused:
            give(talk, what)
        assert talk.state is state
        assert refused.value.step == "conversation"


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_our_own_words_are_not_taken_from_the_peer(message: Message) -> None:
    side = Side.CLIENT if type(message) in FROM_CLIENT else Side.SERVER
    with pytest.raises(PeerMisbehaved, match=type(message).__name__):
        talk_in(State.OPEN, side).received(message)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_every_message_is_an_input(message: Message) -> None:
    special = {Input(name) for name in ("Hello", "Welcome", "Refusal", "Bye")}
    usual = Input.REQUEST if type(message) in FROM_CLIENT else Input.ANSWER
    name = type(message).__name__
    expected = Input(name) if name in {one.value for one in special} else usual
    side = Side.SERVER if type(message) in FROM_CLIENT else Side.CLIENT
    states = [state for state in State if (state, expected) in TABLE]
    for state in states:
        talk = talk_in(state, side)
        talk.received(message)
        assert talk.state is TABLE[state, expected]
    assert states


def test_both_ends_agree_from_hello_to_bye() -> None:
    client, server = Conversation(Side.CLIENT), Conversation(Side.SERVER)
    for message in (HELLO, WELCOME, SAMPLES["Start"], SAMPLES["Started"], BYE):
        speaker, listener = (client, server) if type(message) in FROM_CLIENT else (server, client)
        speaker.sent(message)
        listener.received(message)
        assert client.state is server.state
    assert client.is_over
    assert server.is_over


def test_refused_client_may_say_nothing_more() -> None:
    client = Conversation(Side.CLIENT)
    client.sent(HELLO)
    client.received(SAMPLES["Refusal"])
    with pytest.raises(PeerMisbehaved):
        client.sent(SAMPLES["Start"])


def test_every_message_has_a_side() -> None:
    assert {type(one) for one in ONE_OF_EACH} == {*FROM_CLIENT, *FROM_SERVER}


def test_docstring_draws_the_table() -> None:
    assert drawn_rows(conversation) == rows_of(TABLE)
    assert pictured_words(conversation) == {state.name for state in State}


def test_repr_tells_side_and_state() -> None:
    assert repr(Conversation(Side.CLIENT)) == "<Conversation client: new>"
