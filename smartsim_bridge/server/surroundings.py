"""What a command of this server finds around it: what all share, and who may follow it.

Knows the shared parts by their names only, and nothing of commands.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Protocol

from ..protocol.messages import Message
from .audit import Audit, Caller
from .exits import ExitWatch
from .journal import Journal
from .polls import Polls
from .spool import Spool

__all__ = ["Absent", "Follower", "Gone", "Surroundings", "encoded"]


class Gone(enum.Enum):
    """How a client left, and how many seconds its commands then get."""

    CLOSED = 10.0  # it said goodbye
    BROKEN = 60.0  # its connection ended: it was killed, or it is on its way back
    SILENT = 24 * 3600.0  # nothing comes any more: a laptop that was closed, a cut cable
    PARTED = 900.0  # we ended the link, for another version to go on: so long it is sought


class Follower(Protocol):
    """A session, as its commands see it."""

    id: str
    caller: Caller

    def post(self, message: Message) -> None:
        """Sends, if there is a link."""


class Absent:
    """A session that has no link yet: the one that a command belonged to."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.caller = Caller(name, "", "")

    def post(self, message: Message) -> None:
        """Nobody hears it."""


class Surroundings:
    """What all commands of one server share."""

    def __init__(
        self,
        environment: Mapping[str, str],
        watch: ExitWatch,
        directory: str,
        journal: Journal,
        spool: Spool,
        descriptor_limit: tuple[int, int] | None = None,
        audit: Audit | None = None,
        polls: Polls | None = None,
    ) -> None:
        # Encoded once: Popen would do it again for each command.
        self.environment = encoded(environment)
        self.watch = watch
        self.directory = directory
        self.journal = journal
        self.spool = spool
        self.descriptor_limit = descriptor_limit
        self.audit = audit or Audit(None)
        self.polls = polls or Polls()
        self.waiting_bytes = 0  # requests, and input, of commands whose turn has not come


def encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment as the system wants it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
