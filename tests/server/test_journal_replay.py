"""What the lines of a journal add up to, wherever and whenever its writer was killed."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartsim_bridge.protocol.messages import ENDED, FAILED, RUNNING, UNKNOWN, WAITING
from smartsim_bridge.server import journal as room
from smartsim_bridge.server.journal import Journal, Record
from tests.server.test_journal_file import sample

# Where, how many bytes, and what comes in their place.
CHANGE = st.tuples(st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=20))
AFTER = {"started": RUNNING, "failed": FAILED, "ended": ENDED}


def told(content: bytes) -> tuple[dict[str, str], dict[str, int]]:
    """States and highest numbers, by nothing but the whole lines of a file."""
    states: dict[str, str] = {}
    sessions: dict[str, int] = {}
    for line in content.split(b"\n")[1:-1]:
        kind, first, *rest = json.loads(line)
        if kind == "session":
            sessions[first] = max(sessions.get(first, 0), rest[0])
        elif kind == "begin":
            states[first] = WAITING
            sessions[rest[0]] = max(sessions.get(rest[0], 0), rest[1])
        elif kind in AFTER:
            states[first] = AFTER[kind]
    left = {one: UNKNOWN if it in (WAITING, RUNNING) else it for one, it in states.items()}
    return left, sessions


def test_writer_killed_at_any_byte_leaves_all_that_it_did(tmp_path: Path) -> None:
    """A line that is torn was to announce something that is not done, then."""
    content = sample(tmp_path / "whole")
    path = tmp_path / "torn"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        states, sessions = told(content[:length])
        journal = Journal(str(path))
        assert journal.why_not == "", length
        assert {one.command: one.state for one in journal.records()} == states, length
        known = {one: journal.highest(one) for one in ("s", "other") if journal.knows(one)}
        assert known == sessions, length
        journal.begin("next", "s", 9, ("true",), False)
        journal.close()
        later = Journal(str(path))
        assert {one.command for one in later.records()} == {*states, "next"}, length
        assert later.highest("s") == 9
        later.close()
    assert sorted(os.listdir(tmp_path)) == ["torn", "whole"]  # nothing was worthless


@given(changes=st.lists(CHANGE, min_size=1, max_size=3))
def test_journal_that_was_tampered_with_does_no_harm(changes: list[tuple[int, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "j"
        content = bytearray(sample(path))
        for where, length, instead in changes:
            at = where % (len(content) + 1)
            content[at : at + length] = instead
        path.write_bytes(content)
        journal = Journal(str(path))
        assert journal.why_not == ""
        assert all(isinstance(record, Record) for record in journal.records())
        journal.begin("next", "s", 9, ("true",), False)
        before = [replace(one, state=UNKNOWN) if one.is_live else one for one in journal.records()]
        journal.close()
        later = Journal(str(path))
        assert later.records() == before
        assert later.highest("s") >= 9
        later.close()


# --- any course of events


@dataclass
class Model:
    """What must be known, kept as plainly as can be: a dead server forgets what lives."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)

    def meet(self, session: str, number: int = 0) -> None:
        self.sessions[session] = max(self.sessions.get(session, 0), number)

    def begin(self, command: str, session: str, number: int) -> None:
        self.meet(session, number)
        self.records[command] = {"session": session, "number": number, "state": WAITING}

    def end(self, command: str, output: bytes | None) -> None:
        record = self.records[command]
        gone = record.get("is_forgotten", False)
        record.update(state=ENDED, code=3, stdout=None if gone else output)

    def forget(self, command: str) -> None:
        self.records[command].update(is_forgotten=True, stdout=None)

    def reopen(self) -> None:
        for record in self.records.values():
            if record["state"] in (WAITING, RUNNING):
                record["state"] = UNKNOWN

    def assert_same(self, journal: Journal) -> None:
        assert [one.command for one in journal.records()] == list(self.records)
        for one in journal.records():
            known = asdict(one)
            assert {name: known[name] for name in self.records[one.command]} == (
                self.records[one.command]
            )
        assert {one: journal.highest(one) for one in SESSIONS if journal.knows(one)} == (
            self.sessions
        )


SESSIONS = "stu"
WORDS = ("meet", "begin", "start", "fail", "end", "forget", "tidy", "reopen", "break", "mend")
EVENTS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.integers(0, 5), st.integers(0, 2)), max_size=60
)


class Course:
    """One journal and its model through the same events, on a disk that may break."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.journal = Journal(path)
        self.model = Model()
        self.is_broken = False
        self.names = 0

    def go(self, word: str, one: int, other: int) -> None:
        commands = list(self.model.records)
        command = commands[-1 - one] if one < len(commands) else ""
        if word in ("start", "fail", "end", "forget"):
            if command:
                getattr(self, word)(command, other)
        else:
            getattr(self, "break_" if word == "break" else word)(SESSIONS[other])

    def meet(self, session: str) -> None:
        self.journal.meet(session)
        self.model.meet(session)

    def begin(self, session: str) -> None:
        self.names += 1
        name, number = str(self.names), self.model.sessions.get(session, 0) + 1
        self.journal.begin(name, session, number, ("srun", name), False)
        self.model.begin(name, session, number)

    def start(self, command: str, other: int) -> None:
        self.journal.started(command, other, 7)
        self.model.records[command].update(state=RUNNING, pid=other, pid_start=7)

    def fail(self, command: str, other: int) -> None:
        self.journal.failed(command, other, "text", "name")
        self.model.records[command].update(state=FAILED, errno=other, filename="name")

    def end(self, command: str, other: int) -> None:
        output = None if other == 2 else b"\xff\n" * other
        self.journal.ended(command, 3, None, False, output, b"")
        self.model.end(command, output)

    def forget(self, command: str, _other: int) -> None:
        self.journal.forget([command])
        self.model.forget(command)

    def tidy(self, _session: str) -> None:
        self.journal.tidy()
        if not self.is_broken:
            assert self.journal.why_not == ""

    def reopen(self, _session: str) -> None:
        was_on_disk = self.journal.why_not == ""
        self.journal.close()
        self.journal = Journal(self.path)
        if was_on_disk and not self.is_broken:
            self.model.reopen()
        else:
            self.model = Model()
        assert (self.journal.why_not != "") is self.is_broken

    def break_(self, _session: str) -> None:
        self.is_broken = True

    def mend(self, _session: str) -> None:
        self.is_broken = False


@contextmanager
def course(patch: pytest.MonkeyPatch) -> Iterator[Course]:
    write = os.write
    with tempfile.TemporaryDirectory() as directory:
        one = Course(os.path.join(directory, "j"))

        def write_or_fail(descriptor: int, content: bytes) -> int:
            if one.is_broken:
                raise OSError(5, "Input/output error")
            return write(descriptor, content)

        patch.setattr(os, "write", write_or_fail)
        yield one
        one.journal.close()


@given(events=EVENTS, size=st.sampled_from([200, 2000, 10**6]))
@example(events=[("begin", 0, 0), ("break", 0, 0), ("begin", 0, 1), ("reopen", 0, 0)], size=200)
def test_any_course_of_events_leaves_what_a_plain_model_has(
    events: list[tuple[str, int, int]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, course(patch) as both:
        patch.setattr(room, "MAX_BYTES", size)  # a small one is written anew all the time
        for event in events:
            both.go(*event)
            both.model.assert_same(both.journal)
        both.mend("")
        both.reopen("")
        both.model.assert_same(both.journal)


@given(events=EVENTS, size=st.sampled_from([200, 10**6]))
def test_what_is_dropped_is_the_same_for_the_next_server(
    events: list[tuple[str, int, int]], size: int
) -> None:
    """Else an event could follow in the file that says something of nobody."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        limits = {"BYTES": size, "RECORDS": 3, "SESSIONS": 2, "OUTPUT": 10}
        for name, limit in limits.items():
            patch.setattr(room, f"MAX_{name}", limit)
        path = os.path.join(directory, "j")
        journal = Journal(path)
        for number, (word, one, other) in enumerate(events):
            _do(journal, word, one, f"{number}", SESSIONS[other])
            assert sum(not record.is_live for record in journal.records()) <= 3
            assert sum(len(record.stdout or b"") for record in journal.records()) <= 10
        for record in journal.records():
            if record.is_live:
                journal.failed(record.command, 1, "", "")
        before = copy.deepcopy(journal.records())
        journal.close()
        later = Journal(path)
        assert later.records() == before
        for session in SESSIONS:
            assert (later.knows(session), later.highest(session)) == (
                journal.knows(session),
                journal.highest(session),
            )
        later.close()


def _do(journal: Journal, word: str, one: int, name: str, session: str) -> None:
    commands = [record.command for record in journal.records()]
    command = commands[one % len(commands)] if commands else "nobody's"
    if word in ("begin", "reopen", "break", "mend"):  # many of these, to come to the limits
        journal.begin(name, session, int(name), (), False)
    elif word == "meet":
        journal.meet(session)
    elif word == "start":
        journal.started(command, 1, 1)
    elif word == "fail":
        journal.failed(command, 1, "", "")
    elif word == "end":
        journal.ended(command, 0, None, False, b"x" * (one + 1), b"")
    elif word == "forget":
        journal.forget([command])
    else:
        journal.tidy()
