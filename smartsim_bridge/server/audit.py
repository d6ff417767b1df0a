"""What was run, for whom, when: a line of JSON each, where the server was told so (`--audit`).

A record for the user and for who looks after the host, written by the user's own process:
it proves nothing against the user.  Environments are never recorded; arguments are, which
is why nobody has an audit without asking.  JSON in ASCII keeps control characters out.

    {"event": "start", "time": ..., "uid", "user", "session", "peer", "client", "command",
     "argv", "cwd", "pid"}                             the process runs; with "age" it is that
                                                       of another, begun so many seconds before
    {"event": "end", "time", "command", "session", "code" | "signal", "seconds"}
    {"event": "failed", ... as start, "errno", "why"}  asked for, refused or never started
    {"event": "missed", "time", "since", "lines"}      so many could not be written

Must not know how commands run; never fails: a full disk costs lines, not commands.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..protocol.messages import Start
from .logbook import RotatedFile

__all__ = ["Audit", "Caller"]

log = logging.getLogger(__name__)

MAX_BYTES, KEPT = 8 * 1024 * 1024, 4  # some hundred thousand commands
MAX_ARGV = 8192  # characters of one command's arguments; more may be a script, or a mistake
SHORT_ID = 8  # characters of a session's id: enough to tell sessions apart, too few to be one


@dataclass(frozen=True)
class Caller:
    """Who asks: the client's session, the peer as its link names it, the client's version."""

    session: str
    peer: str
    version: str


class Audit:
    """The lines of one server; without a path none are kept."""

    def __init__(self, path: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._file = RotatedFile(path, MAX_BYTES, KEPT) if path else None
        self._uid = os.getuid()
        self._user = _user_name(self._uid)
        # Who asked for those that are not over: it may be gone when they start or end.
        self._callers: dict[str, tuple[Caller, Start]] = {}
        self._began: dict[str, float] = {}  # when, by the clock
        self._missed = 0
        self._missed_since = ""

    def hand_over(self) -> list[list[Any]]:
        """Who asked for what is not over, and when it began."""
        return [
            [name, caller.session, caller.peer, caller.version, self._began.get(name)]
            for name, (caller, _) in self._callers.items()
        ]

    def take_over(self, past: list[list[Any]], request: Callable[[str], Start | None]) -> None:
        """Goes on with that; `request` tells what a command was asked to do."""
        for name, session, peer, version, began in past:
            asked = request(name)
            if asked is not None:
                self.asked(Caller(session, peer, version), asked)
                if began is not None:
                    self._began[name] = began

    def asked(self, caller: Caller, request: Start) -> None:
        """Remembers it; the line is written when it is known what becomes of it."""
        if self._file is not None:
            self._callers[request.command] = caller, request

    def began(self, command: str, pid: int, age: float = 0.0) -> None:
        """The command runs as process `pid`, which another began `age` seconds before."""
        if command in self._callers:
            self._began[command] = self._clock()
            told = {**self._told(*self._callers[command]), "pid": pid}
            self._write("start", {**told, "age": round(age, 3)} if age else told)

    def ended(self, command: str, code: int | None, signal: int | None) -> None:
        """It ran and is over, by a code or a signal."""
        if command in self._callers:
            caller, _ = self._callers.pop(command)
            now = self._clock()
            seconds = now - self._began.pop(command, now)
            fields: dict[str, object] = {"command": command, "session": _short(caller)}
            fields.update({"code": code} if signal is None else {"signal": signal})
            self._write("end", {**fields, "seconds": round(seconds, 3)})

    def failed(self, command: str, errno: int, why: str) -> None:
        """It was refused, given up while it waited, or could not be started."""
        if command in self._callers:
            told = self._told(*self._callers.pop(command))
            self._write("failed", {**told, "errno": errno, "why": why})

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()

    def _told(self, caller: Caller, request: Start) -> dict[str, object]:
        told = {
            "uid": self._uid,
            "user": self._user,
            "session": _short(caller),
            "peer": caller.peer,
            "client": caller.version,
            "command": request.command,
            "argv": _shortened(request.argv),
            "cwd": request.cwd or "",
        }
        return {**told, "shell": True} if request.shell else told

    def _write(self, event: str, fields: dict[str, object]) -> None:
        now = _now()
        line = _line({"event": event, "time": now, **fields})
        if self._missed:
            since = {"since": self._missed_since, "lines": self._missed}
            line = _line({"event": "missed", "time": now, **since}) + line
        assert self._file is not None
        try:
            self._file.write(line)
        except OSError as failed:
            self._miss(now, failed)
        else:
            self._catch_up()

    def _miss(self, now: str, failed: OSError) -> None:
        if not self._missed:
            self._missed_since = now
            log.warning("cannot write %s: %s; commands run unrecorded", self._path, failed.strerror)
        self._missed += 1

    def _catch_up(self) -> None:
        if self._missed:
            log.info("%s is written again; %s lines were missed", self._path, self._missed)
            self._missed = 0


def _short(caller: Caller) -> str:
    return caller.session[:SHORT_ID]


def _shortened(argv: Sequence[str]) -> list[str]:
    """The arguments as far as they are bearable, and then how many characters were left out."""
    kept, room = [], MAX_ARGV
    for word in argv:
        if len(word) > room:
            kept.append(word[:room])
            kept.append(f"... {_length(argv) - MAX_ARGV} more characters")
            break
        kept.append(word)
        room -= len(word)
    return kept


def _length(words: Iterable[str]) -> int:
    return sum(map(len, words))


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="milliseconds")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # known to the kernel only, as in a container
        return ""
