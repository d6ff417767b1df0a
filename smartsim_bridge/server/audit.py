"""What was run, for whom, when: a line of JSON each, where the server was told so (`--audit`).

A record for the user and for who looks after the host, written by the user's own process:
it proves nothing against the user.  Environments are never recorded; arguments are, which
is why nobody has an audit without asking.  JSON in ASCII keeps control characters out.

    {"event": "start", "time": ..., "uid", "user", "session", "peer", "client", "command",
     "pid", "argv", "cwd"}           the process runs
    {"event": "end", "time", "command", "session", "code" | "signal" | "error", "seconds"}
    {"event": "refused", ... as start, "why"}       it was asked for and not run
    {"event": "missed", "time", "since", "lines"}   so many could not be written

Must not know how commands run; never fails: a full disk costs lines, not commands.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

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
    """The lines of one server."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = RotatedFile(path, MAX_BYTES, KEPT)
        self._uid = os.getuid()
        self._user = _user_name(self._uid)
        self._missed = 0
        self._missed_since = ""

    def began(self, caller: Caller, request: Start, pid: int) -> None:
        """The command runs as process `pid`."""
        self._write("start", {**self._asked(caller, request), "pid": pid})

    def ended(
        self,
        caller: Caller,
        command: str,
        *,
        seconds: float,
        code: int | None = None,
        signal: int | None = None,
        error: str = "",
    ) -> None:
        """It is over, `seconds` after it began: by a code, by a signal, or it never ran."""
        how: dict[str, object] = {"code": code}
        if error:
            how = {"error": error}
        elif signal is not None:
            how = {"signal": signal}
        whose = {"command": command, "session": caller.session[:SHORT_ID]}
        self._write("end", {**whose, **how, "seconds": round(seconds, 3)})

    def refused(self, caller: Caller, request: Start, why: str) -> None:
        """It was asked for and will not be run."""
        self._write("refused", {**self._asked(caller, request), "why": why})

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _asked(self, caller: Caller, request: Start) -> dict[str, object]:
        told = {
            "uid": self._uid,
            "user": self._user,
            "session": caller.session[:SHORT_ID],
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
