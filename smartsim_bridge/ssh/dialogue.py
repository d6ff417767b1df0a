"""keyboard-interactive, with the questions asked from the thread that waits for the login.

paramiko calls back in the thread that reads the connection.  A person may take a minute;
a notebook answers only its own thread; and an exception there would surface as a protocol
error.  So the questions come over here through a queue, and the answers go back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Union

from ..deadline import Deadline
from .ask import printable
from .library import paramiko

__all__ = ["Dialogue", "HostSilent", "TooManyRounds"]

# The host's own limit is LoginGraceTime, 2 minutes as a rule; ours must not come first.
PERSON_SECONDS = 3600.0

# A code that was typed at the last moment should still be of use.
ANSWER_SECONDS = 5.0

# A new password takes four or five.  A host that asks for ever would have a program answer
# for ever, and one that asks nothing again and again would never be silent.
MAX_ROUNDS = 20

Questions = Sequence["tuple[str, bool]"]


class HostSilent(Exception):
    """The host did not react to an answer in time."""


class TooManyRounds(Exception):
    """The host asks and asks, and neither lets us in nor refuses us."""


@dataclass(frozen=True)
class _Round:
    """One set of questions, and where to put the answers; None means we gave up."""

    title: str
    questions: Questions
    answers: queue.Queue[list[str] | None]


_Event = Union[_Round, "list[str]", Exception]


class Dialogue:
    """One keyboard-interactive attempt.  `answer(title, questions)` runs in the caller's thread."""

    def __init__(
        self,
        transport: paramiko.Transport,
        user: str,
        answer: Callable[[str, Questions], list[str]],
    ) -> None:
        self._transport = transport
        self._user = user
        self._answer = answer
        self._events: queue.Queue[_Event] = queue.Queue()
        self._rounds = 0

    def run(self, deadline: Deadline) -> list[str]:
        """The methods still wanted, empty when logged in.

        Raises what paramiko raises, what `answer` raises, HostSilent and TooManyRounds; after
        the latter three the connection is lost, since the host waits for an answer that will
        not come.
        """
        self._transport.auth_timeout = PERSON_SECONDS
        threading.Thread(target=self._attempt, name="ssh-login", daemon=True).start()
        while True:
            event = self._next_event(deadline)
            if isinstance(event, Exception):
                raise event
            if isinstance(event, list):
                return event
            self._play(event)

    def _next_event(self, deadline: Deadline) -> _Event:
        seconds = max(deadline.left, ANSWER_SECONDS)
        try:
            return self._events.get(timeout=min(seconds, PERSON_SECONDS))
        except queue.Empty:
            self._transport.close()
            raise HostSilent from None

    def _play(self, event: _Round) -> None:
        try:
            answers = self._answer(event.title, event.questions)
        except BaseException:
            # paramiko's thread waits for it, and ends the connection on its way out.
            event.answers.put(None)
            raise
        event.answers.put(answers)

    def _attempt(self) -> None:
        try:
            self._events.put(self._transport.auth_interactive(self._user, self._on_questions))
        # Handed to the caller's thread, whatever it is: nobody else sees it.
        except Exception as error:  # noqa: BLE001
            self._events.put(error)

    def _on_questions(self, title: str, instructions: str, questions: Questions) -> list[str]:
        """Runs in paramiko's thread."""
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            self._events.put(TooManyRounds(f"{MAX_ROUNDS} rounds of questions"))
            raise paramiko.SSHException("the login was given up")
        answers: queue.Queue[list[str] | None] = queue.Queue(1)
        heading = "\n".join(part.strip() for part in (title, instructions) if part.strip())
        self._events.put(_Round(printable(heading), questions, answers))
        given = answers.get()
        if given is None:
            raise paramiko.SSHException("the login was given up")
        return given
