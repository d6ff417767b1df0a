"""What was asked of the servers of one host, and what became of it: no request runs twice.

A command is written down before it is spawned and again when it has ended, so a server that
follows one that was killed knows every request that may have run, and the result of most.
What is in memory is what the lines of the file add up to: each event is applied and then
appended, and reading the file applies them again.  Where nothing can be written all of it
stays in memory, and no file is left behind that a later server could take for the truth.

Knows commands as records, not as processes; called from the server's loop, one write each.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..protocol.messages import ENDED, FAILED, RUNNING, UNKNOWN, WAITING
from .journal_file import SHAPES, Event, JournalFile

__all__ = ["STORED", "Journal", "Record"]

log = logging.getLogger(__name__)

STORED = 16 * 1024  # bytes of a stream that are kept: what sbatch and its like print is far less
MAX_OUTPUT = 2 * 1024 * 1024  # ... and of all streams together, for the file is read at once
MAX_BYTES = 4 * 1024 * 1024  # then the file is written anew, with a third of it at most to stay
MAX_RECORDS = 2000  # ended commands: some days of what one user asks for
MAX_SESSIONS = 4096  # a shim makes one each time, so one each second is known for an hour
MAX_WORDS, MAX_TEXT, MAX_ARGV = 32, 512, 1024  # words, characters of each, of all: for people
MAX_PATH = 4096  # PATH_MAX: the filename is told to the client again, so it stays whole
_BATCH = 8  # when there are too many an eighth goes at once, so that it is seldom

_LIVE, _OVER = (WAITING, RUNNING), (ENDED, FAILED, UNKNOWN)


@dataclass
class Record:
    """What is known of one command.  Times in seconds since the epoch, 0: not yet."""

    command: str
    session: str
    number: int
    argv: tuple[str, ...]  # cut where it is long
    keep: bool
    asked: float
    pid: int = 0
    pid_start: int = 0  # clock ticks since boot: tells the process from a later one of that pid
    state: str = WAITING  # one of the words of an Entry
    ended: float = 0.0
    code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    errno: int = 0  # of a start that failed, as are the next two
    text: str = ""
    filename: str = ""
    stdout: bytes | None = None  # all of it, or None where it is not kept
    stderr: bytes | None = None
    is_forgotten: bool = False  # the client has everything it said
    # Bytes of stdout and stderr; of this server's memory, as no line tells what was long.
    printed: tuple[int, int] = field(default=(0, 0), compare=False)

    @property
    def is_live(self) -> bool:
        """Whether more is to come of it."""
        return self.state in _LIVE


class Journal:
    """All that is remembered, on disk while that works; made once per server."""

    def __init__(self, path: str, past: Iterable[Event] | None = None) -> None:
        """Reads what a former server left; never raises, see `why_not`.

        `past` is what a server handed over: then nothing has ended, and the file may even
        be missing.
        """
        self._path = path
        self._file = JournalFile(path)
        self._why_not = ""
        self._is_closed = False
        self._clear()
        if past is None:
            self._recall()
        else:
            for event in past:
                self._apply(event)
            self._write_anew()

    def hand_over(self) -> list[Event]:
        """All that is known."""
        return list(self._events())

    @property
    def why_not(self) -> str:
        """Empty while it is on disk; else why it is in memory only."""
        return self._why_not

    def knows(self, session: str) -> bool:
        """Whether every Start of that session that ever arrived can be told from a new one."""
        return session in self._sessions

    def highest(self, session: str) -> int:
        """The highest number of a Start of that session, 0 where none has come."""
        return self._sessions.get(session, 0)

    def meet(self, session: str) -> None:
        """From now on the session is known.

        To be called once the client has heard whether it was: one that did not would take
        the next answer for the first, and ask again for what has run.
        """
        self._put(["session", session, self.highest(session)])

    def begin(
        self, command: str, session: str, number: int, argv: Sequence[str], keep: bool
    ) -> Record:
        """What is about to be done; to be called before it is.

        Raises ValueError where the command is known already.
        """
        self._put(["begin", command, session, number, _shortened(argv), keep, time.time()])
        return self._records[command]

    def started(self, command: str, pid: int, pid_start: int) -> None:
        """It runs."""
        self._put_known(["started", command, pid, pid_start])

    def failed(self, command: str, errno: int, text: str, filename: str) -> None:
        """It could not be started."""
        text, filename = text[:MAX_TEXT], filename[:MAX_PATH]
        self._put_known(["failed", command, errno, text, filename, time.time()])

    def ended(
        self,
        command: str,
        code: int | None,
        signal: int | None,
        timed_out: bool,
        stdout: bytes | None,
        stderr: bytes | None,
    ) -> None:
        """It is over, with all of its output: None, or more than STORED, is not kept."""
        record = self._records.get(command)
        if record is None or record.is_forgotten:
            stdout = stderr = None
        out, err = _kept(stdout), _kept(stderr)
        self._put_known(["ended", command, code, signal, timed_out, time.time(), out, err])

    def forget(self, commands: Iterable[str]) -> None:
        """Nobody will ask for the output of these again; that they were there stays known."""
        known = [self._records[name] for name in commands if name in self._records]
        fresh = [record.command for record in known if not record.is_forgotten]
        if fresh:
            self._put(["forget", fresh])

    def record(self, command: str) -> Record | None:
        """What is known of it."""
        return self._records.get(command)

    def records(self) -> list[Record]:
        """All of them, oldest first."""
        return list(self._records.values())

    def descriptor(self) -> int | None:
        """For an fsync, in a thread; None while nothing is on disk."""
        return self._file.descriptor

    def tidy(self) -> None:
        """Once a minute: writes the file anew where it has grown, is gone, or failed before."""
        if self._is_closed:
            return
        file = self._file
        if not file.is_on or not file.is_in_place() or file.has_grown_past(MAX_BYTES):
            self._write_anew()

    def close(self) -> None:
        """Leaves the file to the next server; what comes later stays in memory."""
        self._is_closed = True
        self._file.close()

    # --- file

    def _recall(self) -> None:
        try:
            for event in self._file.read():
                self._apply(event)
        except (OSError, ValueError) as fault:
            log.warning("the journal %s is begun anew: %s", self._path, _reason(fault))
            self._clear()
            self._file.set_aside()
        # Whatever was to come of these, it was to come from the server before us.
        opened: Event = ["opened", os.getpid(), time.time()]
        self._apply(opened)
        if self._file.is_on:
            self._append(opened)
        else:
            self._write_anew()
        if self._why_not:
            # What runs from now on is not written down, so what is there is not the truth.
            self._clear()

    def _put_known(self, event: Event) -> None:
        """For what may have been dropped: an unknown outcome that is learnt after all."""
        if event[1] in self._records:
            self._put(event)

    def _put(self, event: Event) -> None:
        self._apply(event)
        if self._file.is_on:
            self._append(event)

    def _append(self, event: Event) -> None:
        try:
            self._file.append(event)
        except OSError as refused:
            self._fall_back(refused)
            return
        if self._file.has_grown_past(2 * MAX_BYTES):
            self._write_anew()

    def _write_anew(self) -> None:
        try:
            self._file.replace(self._events())
        except OSError as refused:
            self._fall_back(refused)
            return
        if self._why_not:
            log.info("the journal is on disk again")
        self._why_not = ""

    def _fall_back(self, refused: OSError) -> None:
        """On memory.  Tried again each minute, for what we could not remove is still believed."""
        self._file.discard()
        if not self._why_not:
            log.warning("the journal %s is in memory only: %s", self._path, _reason(refused))
        self._why_not = f"{self._path}: {_reason(refused)}"

    def _events(self) -> Iterator[Event]:
        """The fewest that add up to what is known."""
        # Records first: a session is not dropped while a command of it runs.
        for record in self._records.values():
            yield ["record", *(getattr(record, name) for name in SHAPES["record"])]
        for session, highest in self._sessions.items():
            yield ["session", session, highest]

    # --- memory

    def _clear(self) -> None:
        self._records: dict[str, Record] = {}
        self._sessions: dict[str, int] = {}  # highest numbers; least recently used first
        self._live: set[str] = set()
        self._output = 0  # bytes of it that are kept

    def _apply(self, event: Event) -> None:
        """Does what a line says; raises ValueError where it does not fit what came before."""
        _APPLY[event[0]](self, *event[1:])
        self._bound()

    def _apply_session(self, session: str, highest: int) -> None:
        self._touch(session, highest)

    def _apply_record(self, *values: Any) -> None:
        record = Record(**dict(zip(SHAPES["record"], values)))
        record.argv = tuple(record.argv)
        if record.state not in _LIVE + _OVER:
            raise ValueError(f"no command is {record.state[:40]!r}")
        self._add(record)
        self._output += _weight(record)

    def _apply_begin(
        self, command: str, session: str, number: int, argv: list[str], keep: bool, asked: float
    ) -> None:
        self._add(Record(command, session, number, tuple(argv), keep, asked))
        self._touch(session, number)

    def _apply_started(self, command: str, pid: int, pid_start: int) -> None:
        record = self._found(command)
        record.pid, record.pid_start = pid, pid_start
        self._move(record, RUNNING)

    def _apply_failed(
        self, command: str, errno: int, text: str, filename: str, ended: float
    ) -> None:
        record = self._found(command)
        record.errno, record.text, record.filename = errno, text, filename
        record.ended = ended
        self._move(record, FAILED)

    def _apply_ended(
        self,
        command: str,
        code: int | None,
        signal: int | None,
        timed_out: bool,
        ended: float,
        stdout: bytes | None,
        stderr: bytes | None,
    ) -> None:
        record = self._found(command)
        record.code, record.signal, record.timed_out = code, signal, timed_out
        record.ended = ended
        self._drop_output(record)
        record.stdout, record.stderr = stdout, stderr
        self._output += _weight(record)
        self._move(record, ENDED)

    def _apply_forget(self, commands: list[str]) -> None:
        for command in commands:
            record = self._found(command)
            record.is_forgotten = True
            self._drop_output(record)
            self._touch_known(record.session)

    def _apply_opened(self, _pid: int, _when: float) -> None:
        for command in list(self._live):
            self._records[command].state = UNKNOWN
        self._live.clear()

    def _add(self, record: Record) -> None:
        if record.command in self._records:
            raise ValueError(f"command {record.command[:40]!r} is known already")
        self._records[record.command] = record
        if record.is_live:
            self._live.add(record.command)

    def _found(self, command: str) -> Record:
        record = self._records.get(command)
        if record is None:
            raise ValueError(f"command {command[:40]!r} was never begun")
        return record

    def _move(self, record: Record, state: str) -> None:
        record.state = state
        (self._live.add if record.is_live else self._live.discard)(record.command)
        self._touch_known(record.session)

    def _touch(self, session: str, number: int) -> None:
        self._sessions[session] = max(self._sessions.pop(session, 0), number)

    def _touch_known(self, session: str) -> None:
        if session in self._sessions:
            self._touch(session, 0)

    # --- bounds

    def _bound(self) -> None:
        """After each event, so that the next server drops the same at the same line."""
        if len(self._records) - len(self._live) > MAX_RECORDS:
            self._bound_records()
        if self._output > MAX_OUTPUT:
            self._bound_output()
        if len(self._sessions) > MAX_SESSIONS:
            self._bound_sessions()

    def _bound_records(self) -> None:
        over = self._least_wanted()
        for record in over[: len(over) - MAX_RECORDS + MAX_RECORDS // _BATCH]:
            self._drop_output(record)
            del self._records[record.command]

    def _bound_output(self) -> None:
        for record in self._least_wanted():
            self._drop_output(record)
            if self._output <= MAX_OUTPUT - MAX_OUTPUT // _BATCH:
                break

    def _bound_sessions(self) -> None:
        # One that waits for a command would lose it by being unknown.
        busy = {self._records[command].session for command in self._live}
        newest = next(reversed(self._sessions))
        idle = [one for one in self._sessions if one not in busy and one != newest]
        excess = len(self._sessions) - MAX_SESSIONS
        for session in idle[: excess + MAX_SESSIONS // _BATCH]:
            del self._sessions[session]

    def _least_wanted(self) -> list[Record]:
        """What is over: first what its client has already, then the oldest."""
        over = [record for record in self._records.values() if not record.is_live]
        return sorted(over, key=lambda one: (not one.is_forgotten, one.ended or one.asked))

    def _drop_output(self, record: Record) -> None:
        self._output -= _weight(record)
        record.stdout = record.stderr = None


def _weight(record: Record) -> int:
    return len(record.stdout or b"") + len(record.stderr or b"")


def _shortened(argv: Sequence[str]) -> list[str]:
    """As much of it as people read; "..." stands for the rest."""
    words: list[str] = []
    room = MAX_ARGV
    for word in argv:
        if (len(words) == MAX_WORDS - 1 and len(argv) > MAX_WORDS) or room < len("..."):
            return [*words, "..."]
        most = min(MAX_TEXT, room)
        words.append(word if len(word) <= most else word[: most - len("...")] + "...")
        room -= len(words[-1])
    return words


def _kept(output: bytes | None) -> bytes | None:
    return None if output is None or len(output) > STORED else bytes(output)


def _reason(fault: OSError | ValueError) -> str:
    return getattr(fault, "strerror", None) or str(fault)


_APPLY: dict[str, Callable[..., None]] = {
    "session": Journal._apply_session,
    "record": Journal._apply_record,
    "begin": Journal._apply_begin,
    "started": Journal._apply_started,
    "failed": Journal._apply_failed,
    "ended": Journal._apply_ended,
    "forget": Journal._apply_forget,
    "opened": Journal._apply_opened,
}
