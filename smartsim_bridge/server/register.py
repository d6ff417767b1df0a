"""All commands of this server by their ids: those that run, and those that somebody may ask for.

A request that was made before, on whatever link and to whichever server of this host, is
known here or in the journal, and starts nothing a second time.  Where nobody can know what
became of a command, the answer is Lost.  Knows sessions only as followers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

from ..protocol.lifecycle import State
from ..protocol.messages import (
    ENDED,
    EXITED,
    FAILED,
    NEVER_HEARD_OF,
    OUTCOME_UNKNOWN,
    OUTPUT_GONE,
    RUNNING,
    STDERR,
    STDOUT,
    WAITING,
    Attach,
    Attached,
    Entry,
    Exited,
    Lost,
    Message,
    Output,
    Queued,
    Start,
    StartFailed,
)
from ..protocol.polls import Key, is_brief
from .allowance import Allowance
from .backlog import Backlog, QueueFull
from .commands import Command
from .handover import Carry, Past
from .journal import Record
from .surroundings import Follower, Surroundings

__all__ = ["Register"]

log = logging.getLogger(__name__)

MAX_ENDED = 1000  # commands whose results are kept until their clients have them
KEPT_SECONDS = 24 * 3600.0  # ... and for how long

_STATES = {
    State.REQUESTED: WAITING,
    State.RUNNING: RUNNING,
    State.EXITED: EXITED,
    State.OVER: ENDED,
    State.FAILED: FAILED,
}


class Register:
    """Every command that may be asked for; made once per server."""

    def __init__(
        self, surroundings: Surroundings, backlog: Backlog, allowance: Allowance | None = None
    ) -> None:
        self._surroundings = surroundings
        self._allowance = allowance
        self._journal = surroundings.journal
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._commands: dict[str, Command] = {}
        self._ended: dict[str, float] = {}  # when, oldest first
        self._syncing: set[asyncio.Future[None]] = set()
        self._early: dict[Command, asyncio.TimerHandle] = {}  # polls that are asked too often

    def meet(self, session: str) -> None:
        """A client has come, and knows now whether its session was known before."""
        self._journal.meet(session)

    def find(self, command: str) -> Command | None:
        """The command, if this server itself has run it and still holds it."""
        return self._commands.get(command)

    def request(self, command: str) -> Start | None:
        """What was asked for, as far as this server knows."""
        found = self._commands.get(command)
        return None if found is None else found.request

    def start(self, request: Start, follower: Follower) -> None:
        """Starts what is asked for the first time; for anything else it is an Attach."""
        if request.command in self._commands or self._journal.record(request.command):
            self.attach(Attach(request.command, resume=True), follower)
        elif 0 < request.number <= self._journal.highest(follower.id):
            text = "It was asked for before; what became of it is not remembered"
            follower.post(Lost(request.command, OUTCOME_UNKNOWN, text))
        elif self._backlog.is_closed:
            text = "The server is stopping"
            follower.post(StartFailed(request.command, errno.ESHUTDOWN, text))
        else:
            self._begin(request, follower)

    def attach(self, asked: Attach, follower: Follower) -> None:
        """Goes on with a command where the follower left off, or says why it cannot."""
        command = self._commands.get(asked.command)
        if command is not None:
            command.follow(follower, asked)
            return
        record = self._journal.record(asked.command)
        if record is None:
            text = "The server knows no such command"
            follower.post(Lost(asked.command, NEVER_HEARD_OF, text))
            return
        for message in _answer(record, asked):
            follower.post(message)

    def forget(self, commands: Iterable[str], follower: Follower) -> None:
        """The follower has all of them."""
        over = []
        for name in commands:
            command = self._commands.get(name)
            if command is None:
                over.append(name)
            # Not only where it follows it: the link may be another one than that of the end.
            elif command.owner == follower.id and command.lifecycle.is_over:
                self._drop(name)
                over.append(name)
        self._journal.forget(over)

    def leave(self, command: Command) -> None:
        """The command is over; what it said is kept until somebody has it."""
        if command.key is not None:
            self._surroundings.polls.leave(command.key, command.id)
        self._backlog.leave(command)
        self._ended[command.id] = self._loop.time()
        while len(self._ended) > MAX_ENDED:
            self._drop(next(iter(self._ended)))

    def tidy(self) -> None:
        """Now and then: drops what nobody came for, lets go on what had no room."""
        oldest = self._loop.time() - KEPT_SECONDS
        while self._ended and next(iter(self._ended.values())) < oldest:
            self._drop(next(iter(self._ended)))
        self._journal.tidy()
        for command in self._commands.values():
            command.look_for_room()

    def entries(self, request: int) -> Iterator[Entry]:
        """Everything that can be told, oldest first."""
        for record in self._journal.records():
            command = self._commands.get(record.command)
            entry = _entry(record, request) if command is None else _live(command, record, request)
            yield entry

    async def settle(self, seconds: float) -> None:
        """Waits for what is on its way to the disk, at most so long; holds back nothing else."""
        early, self._early = self._early, {}
        for command, timer in early.items():
            timer.cancel()
            if not command.lifecycle.is_over:
                self._admit(command)
        if self._syncing:
            await asyncio.wait(self._syncing, timeout=seconds)

    def check_settled(self) -> None:
        """Raises OSError where the disk does not answer, and commands still wait for it."""
        if self._syncing:
            raise OSError(errno.ETIMEDOUT, "the disk does not answer")

    def leave_behind(self, command: Command) -> None:
        """Its client said goodbye without having read it: nobody will."""
        if command.lifecycle.is_over and not command.keep:
            self._drop(command.id)

    # --- from one program to the next

    def hand_over(self, carry: Carry) -> Iterator[dict[str, Any]]:
        """A record of each command: what runs, what waits in its order, what is over."""
        running, waiting = (cast("list[Command]", some) for some in self._backlog.hand_over())
        for where, commands in (("running", running), ("waiting", waiting)):
            for command in commands:
                yield {"where": where, "command": command.hand_over(carry)}
        for name, when in self._ended.items():
            command = self._commands[name]
            yield {"where": "ended", "command": command.hand_over(carry), "when": when}

    def take_over(self, past: Past) -> None:
        """Goes on with all of them; nothing is started before the backlog goes on."""
        for record in past.commands:
            command = Command.take_over(record["command"], self._surroundings, self.leave)
            self._commands[command.id] = command
            if record["where"] == "running":
                self._backlog.adopt(command, command.owner)
            elif record["where"] == "waiting":
                self._admit(command)
            else:
                self._ended[command.id] = record["when"]

    # --- inside

    def _begin(self, request: Start, follower: Follower) -> None:
        program, refused = "", None
        if self._allowance is not None:
            try:
                program = self._allowance.check(request)
            except OSError as fault:
                refused = fault
            request = replace(request, env=self._allowance.clean(request.env))
        command = Command(request, self._surroundings, follower, self.leave, program)
        self._commands[request.command] = command
        self._surroundings.audit.asked(follower.caller, request)
        self._journal.begin(
            request.command, follower.id, request.number, request.argv, command.keep
        )
        if refused is not None:
            command.fail(refused.errno or 0, refused.strerror or "", refused.filename or "")
        elif command.keep:
            self._sync_first(command)
        elif command.key is None:
            self._admit(command)
        else:
            self._surroundings.polls.enter(command.key, command.id)
            self._admit_poll(command, command.key)

    def _admit_poll(self, command: Command, key: Key) -> None:
        """Lets it wait for a run that several share, where they ask so often."""
        seconds = self._surroundings.polls.seconds_before(key, command.owner)
        if seconds:
            self._early[command] = self._loop.call_later(seconds, self._look_again, command, key)
        else:
            self._admit(command)

    def _look_again(self, command: Command, key: Key) -> None:
        del self._early[command]
        if not command.lifecycle.is_over:  # given up meanwhile
            self._admit_poll(command, key)

    def _admit(self, command: Command) -> None:
        try:
            request = command.request
            brief = is_brief(request.argv, request.shell)
            ahead = self._backlog.admit(command, command.owner, is_brief=brief)
        except QueueFull as full:
            command.fail(errno.EAGAIN, full.strerror or "", "")
            return
        if command.lifecycle.state is State.REQUESTED:
            command.wait_with(_size(command.request))
        if ahead and command.follower is not None and not command.lifecycle.is_over:
            command.follower.post(Queued(command.id, ahead))

    def _sync_first(self, command: Command) -> None:
        """A submission leaves a job behind even if this host dies now: the disk must know."""
        descriptor = self._journal.descriptor()
        if descriptor is None:
            self._admit(command)
            return
        # A copy: the journal may be written anew meanwhile.
        copy = os.dup(descriptor)
        syncing = self._loop.run_in_executor(None, _sync, copy)
        self._syncing.add(syncing)

        def go_on(done: asyncio.Future[None]) -> None:
            self._syncing.discard(done)
            if self._backlog.is_closed:
                command.terminate(0.0)  # the server ends: nobody would see to it
            elif not command.lifecycle.is_over:
                self._admit(command)

        syncing.add_done_callback(go_on)

    def _drop(self, name: str) -> None:
        self._ended.pop(name, None)
        command = self._commands.pop(name, None)
        if command is None:
            return
        record = self._journal.record(name)
        if record is not None:
            record.printed = command.sizes
        command.close()


def _size(request: Start) -> int:
    """About how many bytes it takes to remember what was asked."""
    texts = (*request.argv, *request.env, *request.env.values())
    return sum(map(len, texts)) + 64 * len(texts)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as failed:
        log.warning("the journal may not be on disk: %s", failed.strerror)
    finally:
        os.close(descriptor)


def _answer(record: Record, asked: Attach) -> Iterator[Message]:
    """What is known of a command of a former server, or of one that was dropped."""
    name = record.command
    if record.state == FAILED:
        yield StartFailed(name, record.errno, record.text, record.filename)
    elif record.state != ENDED:
        pid = f" as process {record.pid}" if record.pid else ""
        text = f"The server that was to run it{pid} was killed before it could tell the end"
        yield Lost(name, OUTCOME_UNKNOWN, text)
    elif record.stdout is None or record.stderr is None:
        how = f"signal {record.signal}" if record.code is None else f"exit status {record.code}"
        yield Lost(name, OUTPUT_GONE, f"It ended with {how}; its output is not kept any more")
    else:
        wholes = (record.stdout, record.stderr)
        out, err = (
            min(max(offset, 0), len(whole))
            for whole, offset in zip(wholes, (asked.stdout, asked.stderr))
        )
        yield Attached(name, record.pid, out, err, argv=record.argv)
        for stream, whole, begin in zip((STDOUT, STDERR), wholes, (out, err)):
            if whole[begin:]:
                yield Output(name, stream, begin, payload=whole[begin:])
        yield Exited(name, record.code, record.signal, record.timed_out)


def _entry(record: Record, request: int) -> Entry:
    stdout, stderr = record.printed
    return Entry(
        request,
        record.command,
        record.argv,
        record.state,
        record.pid,
        record.code,
        record.signal,
        asked=record.asked,
        ended=record.ended,
        keep=record.keep,
        stdout=len(record.stdout or b"") or stdout,
        stderr=len(record.stderr or b"") or stderr,
        note=record.text,
    )


def _live(command: Command, record: Record, request: int) -> Entry:
    stdout, stderr = command.sizes
    return Entry(
        request,
        record.command,
        record.argv,
        _STATES.get(command.lifecycle.state, record.state),
        command.pid,
        record.code,
        record.signal,
        asked=record.asked,
        ended=record.ended,
        keep=command.keep,
        followed=command.follower is not None,
        stdout=stdout,
        stderr=stderr,
        note=_note(command) or record.text,
    )


def _note(command: Command) -> str:
    if command.why_paused:
        return f"paused: {command.why_paused}"
    return f"answered by a run begun {command.age:.3f} s before" if command.age else ""
