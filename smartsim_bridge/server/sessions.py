"""What one client asks for over the link that it has now.

Requests arrive here in order and none of them waits: each is answered at once or starts
something that answers later.  The session's name outlives the link, its commands do too:
they are the register's, and are followed again over the next link.  Knows messages, not
how links are made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import LinkLost, PeerMisbehaved
from ..links.link import Link
from ..protocol.messages import (
    NULL,
    PIPE,
    TO_STDOUT,
    Attach,
    CommandsEnd,
    Detach,
    Forget,
    Input,
    Inquiry,
    ListCommands,
    Locate,
    Located,
    Message,
    OutputClosed,
    OutputTaken,
    Ping,
    Pong,
    Replace,
    Signal,
    Start,
    Stop,
    Terminate,
)
from .audit import Caller
from .commands import Command
from .register import Register
from .surroundings import Gone

__all__ = ["MAX_NAME", "Session"]

MAX_NAME = 128  # characters of the ids that clients draw; the journal keeps them
MAX_LOCATING = 16  # unanswered Locates of one client, which asks 8 at once

_WAYS = {"stdin": (PIPE, NULL), "stdout": (PIPE, NULL), "stderr": (PIPE, NULL, TO_STDOUT)}


class Session:
    """One client, and the link it has now."""

    def __init__(
        self,
        name: str,
        link: Link,
        register: Register,
        *,
        on_inquiry: Callable[[Inquiry], Message],
        on_stop: Callable[[Stop], None],
        on_replace: Callable[[Replace, Session], None] | None = None,
        on_locate: Callable[[Locate, Callable[[Located], None]], None] | None = None,
        version: str = "",
    ) -> None:
        self.id = name
        self.caller = Caller(name, link.info.peer, version)
        self._link: Link | None = link
        self._register = register
        self._on_inquiry = on_inquiry
        self._on_stop = on_stop
        self._on_replace = on_replace
        self._on_locate = on_locate
        self._to_locate: deque[Locate] = deque()
        self._is_met = False
        self._asked: set[str] = set()  # commands that it started or attached to

    def handle(self, message: Message) -> None:
        """Does what the client asked; raises PeerMisbehaved where it breaks the rules."""
        if not self._is_met:
            # Its first word after our Welcome: it has heard whether we knew it before.
            self._is_met = True
            self._register.meet(self.id)
        _REQUESTS.get(type(message), Session._to_command)(self, message)

    def post(self, message: Message) -> None:
        """Sends, if there is a link; a link that breaks is noticed by whoever receives from it."""
        if self._link is not None:
            try:
                self._link.send(message)
            except LinkLost:
                self._link = None

    def leave(self, gone: Gone) -> None:
        """The client is gone, and so is this link; its commands go on as was agreed."""
        self._link = None
        for name in self._asked:
            command = self._register.find(name)
            if command is not None and command.follower is self:
                command.unfollow(gone)
                if gone is Gone.CLOSED:
                    self._register.leave_behind(command)

    def _start(self, request: Start) -> None:
        for way, allowed in _WAYS.items():
            if getattr(request, way) not in allowed:
                raise PeerMisbehaved(
                    f"{way}={getattr(request, way)!r} is no way to start a command"
                )
        if not 0 < len(request.command) <= MAX_NAME:
            raise PeerMisbehaved(f"A command whose id has {len(request.command)} characters")
        self._register.start(request, self)
        self._remember(request.command)

    def _attach(self, asked: Attach) -> None:
        self._register.attach(asked, self)
        self._remember(asked.command)

    def _remember(self, command: str) -> None:
        if self._register.find(command) is not None:  # others cost nothing, however many
            self._asked.add(command)

    def _forget(self, said: Forget) -> None:
        self._asked.difference_update(said.commands)
        self._register.forget(said.commands, self)

    def _list(self, asked: ListCommands) -> None:
        for entry in self._register.entries(asked.request):
            self.post(entry)
        self.post(CommandsEnd(asked.request))

    def _ping(self, asked: Ping) -> None:
        self.post(Pong(asked.number))

    def _inquiry(self, asked: Inquiry) -> None:
        self.post(self._on_inquiry(asked))

    def _stop(self, asked: Stop) -> None:
        self._on_stop(asked)

    def _replace(self, asked: Replace) -> None:
        if self._on_replace is not None:
            self._on_replace(asked, self)

    def _locate(self, asked: Locate) -> None:
        # Beyond that a file system hangs, and the client has given up on those before.
        if len(self._to_locate) < MAX_LOCATING:
            self._to_locate.append(asked)
            if len(self._to_locate) == 1:
                self._locate_next()

    def _locate_next(self) -> None:
        # One at a time: each takes a thread, which a file system may hold for ever.
        if self._on_locate is not None:
            self._on_locate(self._to_locate[0], self._located)

    def _located(self, answer: Located) -> None:
        self._to_locate.popleft()
        self.post(answer)
        if self._to_locate and self._link is not None:
            self._locate_next()

    def _to_command(self, message: Message) -> None:
        # What is said of a command that somebody else follows now crossed our being told.
        command = self._register.find(getattr(message, "command", ""))
        if command is not None and command.follower is self:
            _TO_COMMAND[type(message)](command, message)

    @property
    def commands(self) -> list[Command]:
        """Those it follows."""
        found = (self._register.find(name) for name in self._asked)
        return [command for command in found if command is not None and command.follower is self]

    def __repr__(self) -> str:
        return f"<Session {self.id[:8]} with {len(self.commands)} commands>"


_REQUESTS: dict[type, Callable[[Session, Any], None]] = {
    Start: Session._start,
    Attach: Session._attach,
    Forget: Session._forget,
    Ping: Session._ping,
    ListCommands: Session._list,
    Inquiry: Session._inquiry,
    Stop: Session._stop,
    Replace: Session._replace,
    Locate: Session._locate,
}

_TO_COMMAND: dict[type, Callable[[Command, Any], None]] = {
    Input: Command.input,
    OutputTaken: lambda command, said: command.output_taken(said.stream, said.offset),
    OutputClosed: lambda command, said: command.close_output(said.stream),
    Signal: lambda command, said: command.signal(said.number),
    Terminate: lambda command, said: command.terminate(said.grace, said.number),
    Detach: lambda command, said: command.detach(),
}
