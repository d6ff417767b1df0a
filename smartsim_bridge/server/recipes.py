"""What a request means on this host: program, directory, environment, and which process that is.

Nearly always its own; a poll may be given a seat at the run of another (`polls`).  Knows
nothing of what becomes of the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..protocol.environment import command_environment
from ..protocol.messages import Start
from ..protocol.polls import is_poll, key_of
from .own_programs import command_line
from .processes import Owner, Process
from .runs import Guest, Seat
from .surroundings import Surroundings, encoded

__all__ = ["Recipe"]

SHELL = "/bin/sh"


class Recipe:
    """How one request is carried out; `program` is the file to run, if not what argv[0] means."""

    def __init__(self, request: Start, surroundings: Surroundings, program: str = "") -> None:
        self.program = program
        self.is_poll = is_poll(request.argv, request.shell)
        self._request = request
        self._surroundings = surroundings
        # What it asks, where others may ask the same.
        self.key = key_of(request, self._directory, self._environment()) if self.is_poll else None

    def start(self, guest: Guest, session: str) -> Process | Seat:
        """Raises OSError; ValueError, TypeError or IndexError for a NUL byte or an empty argv."""
        if self.key is None:
            return self._spawn(guest)
        return self._surroundings.polls.seat(self.key, guest, session, self._spawn)

    def _spawn(self, owner: Owner) -> Process:
        request, shared = self._request, self._surroundings
        return Process(
            self._argv(),
            owner,
            shared.watch,
            program=self.program,
            cwd=self._directory,
            environment={**shared.environment, **encoded(self._environment())},
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            descriptor_limit=shared.descriptor_limit,
        )

    def _argv(self) -> Sequence[str]:
        request = self._request
        if request.own:
            return command_line(request.argv)
        return [SHELL, "-c", *request.argv] if request.shell else request.argv

    @property
    def _directory(self) -> str:
        home, asked = self._surroundings.directory, self._request.cwd
        return os.path.join(home, asked) if asked else home

    def _environment(self) -> dict[str, str]:
        request = self._request
        program = SHELL if request.shell or not request.argv else request.argv[0]
        return command_environment(program, {}, request.env, request.keep_env)
