"""What the server remembers of one client: its link and its commands.

A session is named by the client and may outlive a link.  Requests arrive here in order
and none of them waits: each is answered at once or starts something that answers later.
Knows messages and commands, not how links are made.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from ..errors import LinkLost, PeerMisbehaved
from ..links.link import Link
from ..protocol.messages import (
    NULL,
    PIPE,
    TO_STDOUT,
    Input,
    Inquiry,
    Message,
    OutputClosed,
    OutputTaken,
    Ping,
    Pong,
    Signal,
    Start,
    StartFailed,
    Stop,
    Terminate,
)
from .backlog import Backlog
from .commands import Command, Surroundings

__all__ = ["Session"]

# Commands of a client that said goodbye, or of one that vanished: seconds until they end.
# A vanished one gets longer, for a submission that is under way to come through.
GRACE_CLOSED, GRACE_LOST = 10.0, 60.0
KILL_AFTER = 10.0  # seconds between SIGTERM and SIGKILL

_WAYS = {"stdin": (PIPE, NULL), "stdout": (PIPE, NULL), "stderr": (PIPE, NULL, TO_STDOUT)}


class Session:
    """One client's commands, and the link it has now."""

    def __init__(
        self,
        link: Link,
        surroundings: Surroundings,
        backlog: Backlog,
        *,
        on_inquiry: Callable[[Inquiry], Message],
        on_stop: Callable[[Stop], None],
    ) -> None:
        self._link: Link | None = link
        self._surroundings = surroundings
        self._backlog = backlog
        self._on_inquiry = on_inquiry
        self._on_stop = on_stop
        self._commands: dict[str, Command] = {}

    def handle(self, message: Message) -> None:
        """Does what the client asked; raises PeerMisbehaved where it breaks the rules."""
        if isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Ping):
            self.post(Pong(message.number))
        elif isinstance(message, Inquiry):
            self.post(self._on_inquiry(message))
        elif isinstance(message, Stop):
            self._on_stop(message)
        else:
            self._to_command(message)

    def post(self, message: Message) -> None:
        """Sends, if there is a link; a link that breaks is noticed by whoever receives from it."""
        if self._link is not None:
            try:
                self._link.send(message)
            except LinkLost:
                self._link = None

    def leave(self, *, closed: bool) -> None:
        """The client is gone: `closed` on purpose, or lost.  Its commands get a grace."""
        self._link = None
        for command in list(self._commands.values()):  # one may be over with it
            command.lose_reader()
        if self._commands:
            loop = asyncio.get_running_loop()
            loop.call_later(GRACE_CLOSED if closed else GRACE_LOST, self.end_commands)

    def end_commands(self, grace: float = KILL_AFTER) -> None:
        """Ends what still runs."""
        for command in list(self._commands.values()):
            command.terminate(grace)

    def _start(self, request: Start) -> None:
        for way, allowed in _WAYS.items():
            if getattr(request, way) not in allowed:
                raise PeerMisbehaved(
                    f"{way}={getattr(request, way)!r} is no way to start a command"
                )
        if not request.command or request.command in self._commands:
            return  # said again: it runs already
        if self._backlog.is_closed:
            self.post(StartFailed(request.command, errno.ESHUTDOWN, "The server is stopping"))
            return
        command = Command(request, self._surroundings, self.post, self._over)
        self._commands[request.command] = command
        self._backlog.admit(command)

    def _to_command(self, message: Message) -> None:
        # A message about a command that is over crossed its last answer: nothing to do.
        command = self._commands.get(getattr(message, "command", ""))
        if command is None:
            return
        if isinstance(message, Input):
            command.input(message)
        elif isinstance(message, OutputTaken):
            command.output_taken(message.stream, message.offset)
        elif isinstance(message, OutputClosed):
            command.close_output(message.stream)
        elif isinstance(message, Signal):
            command.signal(message.number)
        elif isinstance(message, Terminate):
            command.terminate(message.grace)

    def _over(self, command: Command) -> None:
        self._commands.pop(command.id, None)
        self._backlog.leave(command)

    @property
    def commands(self) -> int:
        """How many of its commands are not over."""
        return len(self._commands)

    def __repr__(self) -> str:
        return f"<Session with {len(self._commands)} commands, link {self._link is not None}>"
