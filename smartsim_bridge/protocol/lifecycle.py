"""The states of one command, on the head and as the client knows them.

Rules: a command is requested, then runs or fails to start; a running one exits, and is
over when its streams have ended too (a grandchild may hold them open after the exit).
A start that nobody wanted announced is told by the exit alone.
A lost link does not change what the command does, only what the client knows: it moves
to UNKNOWN, which a later message of a resumed session may resolve.

     +--------------- exited ------------------+
     |           started            exited     v      drained
    REQUESTED ------------> RUNNING --------> EXITED ---------> OVER
     |     | start failed      | link lost      | link lost
     |     +-----> FAILED      v                |
     +--------------------> UNKNOWN <-----------+
         link lost

    REQUESTED  --  started: RUNNING;  start failed: FAILED;  exited: EXITED;  link lost: UNKNOWN
    RUNNING    --  exited: EXITED;  link lost: UNKNOWN
    EXITED     --  drained: OVER;  link lost: UNKNOWN
    UNKNOWN    --  started: RUNNING;  start failed: FAILED;  exited: EXITED;  link lost: UNKNOWN
    OVER       --  link lost: OVER
    FAILED     --  link lost: FAILED

Pure; both halves use it.
"""

from __future__ import annotations

import enum

__all__ = ["TABLE", "IllegalMove", "Input", "Lifecycle", "State"]


class State(enum.Enum):
    """What a command does, as far as this end knows."""

    REQUESTED = "requested"
    RUNNING = "running"
    EXITED = "exited"
    OVER = "over"
    FAILED = "failed to start"
    UNKNOWN = "unknown"


class Input(enum.Enum):
    """What can happen to a command."""

    STARTED = "started"
    START_FAILED = "start failed"
    EXITED = "exited"
    DRAINED = "drained"
    LOST = "link lost"


TABLE: dict[tuple[State, Input], State] = {
    (State.REQUESTED, Input.STARTED): State.RUNNING,
    (State.REQUESTED, Input.START_FAILED): State.FAILED,
    (State.REQUESTED, Input.EXITED): State.EXITED,
    (State.REQUESTED, Input.LOST): State.UNKNOWN,
    (State.RUNNING, Input.EXITED): State.EXITED,
    (State.RUNNING, Input.LOST): State.UNKNOWN,
    (State.EXITED, Input.DRAINED): State.OVER,
    (State.EXITED, Input.LOST): State.UNKNOWN,
    (State.UNKNOWN, Input.STARTED): State.RUNNING,
    (State.UNKNOWN, Input.START_FAILED): State.FAILED,
    (State.UNKNOWN, Input.EXITED): State.EXITED,
    (State.UNKNOWN, Input.LOST): State.UNKNOWN,
    (State.OVER, Input.LOST): State.OVER,
    (State.FAILED, Input.LOST): State.FAILED,
}


class IllegalMove(ValueError):
    """A command cannot do that in the state it is in."""


class Lifecycle:
    """Follows one command."""

    def __init__(self) -> None:
        self.state = State.REQUESTED

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow any more."""
        return self.state in (State.OVER, State.FAILED)

    def move(self, what: Input) -> None:
        """Raises IllegalMove where the table has no such row."""
        following = TABLE.get((self.state, what))
        if following is None:
            raise IllegalMove(f"{what.value!r} while {self.state.value}")
        self.state = following

    def __repr__(self) -> str:
        return f"<Lifecycle: {self.state.value}>"
