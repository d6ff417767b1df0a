"""The states of the talk with one peer, from first word to last, for both ends.

Rules: the client speaks first, with Hello; the server answers with Welcome or Refusal;
then the client asks and the server answers, in any order; either may end it.  A message
that the state does not allow, or that belongs to the other side, breaks the protocol,
and so does everything after the end.  A lost link is an input like any other.  Stopping
is an answer, not the end: the last words about commands may follow it.

         Hello            Welcome         Bye, lost
    NEW ------> GREETED ----------> OPEN -----------> OVER
     | lost        | Refusal, lost                     ^
     +-------------+-----------------------------------+

    NEW      --  Hello: GREETED;  a lost link: OVER
    GREETED  --  Welcome: OPEN;  Refusal: OVER;  a lost link: OVER
    OPEN     --  a request: OPEN;  an answer: OPEN;  Bye: OVER;  a lost link: OVER
    OVER     --  a lost link: OVER

Pure: knows that a link was lost only because it is told so.
"""

from __future__ import annotations

import enum

from ..errors import PeerMisbehaved
from .messages import (
    FROM_CLIENT,
    FROM_SERVER,
    Bye,
    Hello,
    Message,
    Refusal,
    Welcome,
)

__all__ = ["TABLE", "Conversation", "Input", "Side", "State"]


class Side(enum.Enum):
    """Which end of the talk this is."""

    CLIENT = "client"
    SERVER = "server"


class State(enum.Enum):
    """Where the talk stands."""

    NEW = "new"
    GREETED = "greeted"
    OPEN = "open"
    OVER = "over"


class Input(enum.Enum):
    """What can happen to the talk."""

    HELLO = "Hello"
    WELCOME = "Welcome"
    REFUSAL = "Refusal"
    REQUEST = "a request"
    ANSWER = "an answer"
    BYE = "Bye"
    LOST = "a lost link"


TABLE: dict[tuple[State, Input], State] = {
    (State.NEW, Input.HELLO): State.GREETED,
    (State.NEW, Input.LOST): State.OVER,
    (State.GREETED, Input.WELCOME): State.OPEN,
    (State.GREETED, Input.REFUSAL): State.OVER,
    (State.GREETED, Input.LOST): State.OVER,
    (State.OPEN, Input.REQUEST): State.OPEN,
    (State.OPEN, Input.ANSWER): State.OPEN,
    (State.OPEN, Input.BYE): State.OVER,
    (State.OPEN, Input.LOST): State.OVER,
    (State.OVER, Input.LOST): State.OVER,
}

_INPUTS: dict[type, Input] = {
    **dict.fromkeys(FROM_CLIENT, Input.REQUEST),
    **dict.fromkeys(FROM_SERVER, Input.ANSWER),
    Hello: Input.HELLO,
    Welcome: Input.WELCOME,
    Refusal: Input.REFUSAL,
    Bye: Input.BYE,
}

_MAY_RECEIVE = {Side.CLIENT: frozenset(FROM_SERVER), Side.SERVER: frozenset(FROM_CLIENT)}


class Conversation:
    """Follows one talk; raises PeerMisbehaved as soon as it leaves the rules."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.state = State.NEW

    @property
    def is_over(self) -> bool:
        """Whether nothing may pass any more."""
        return self.state is State.OVER

    def received(self, message: Message) -> None:
        """The peer said this."""
        if type(message) not in _MAY_RECEIVE[self.side]:
            raise PeerMisbehaved(
                f"The peer sent {type(message).__name__}, which a {self.side.value} says",
                step="conversation",
            )
        self._move(_INPUTS[type(message)])

    def sent(self, message: Message) -> None:
        """We said this."""
        self._move(_INPUTS[type(message)])

    def lost(self) -> None:
        """The link is gone."""
        self._move(Input.LOST)

    def _move(self, what: Input) -> None:
        # The one move that stays put is also by far the most frequent one.
        following = TABLE.get((self.state, what))
        if following is None:
            raise PeerMisbehaved(
                f"{what.value} came while the conversation was {self.state.value}",
                step="conversation",
            )
        self.state = following

    def __repr__(self) -> str:
        return f"<Conversation {self.side.value}: {self.state.value}>"
