"""What was asked for is asked for again, in every state that it can be in."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from smartsim_bridge.protocol.messages import (
    ENDED,
    EXITED,
    FAILED,
    NEVER_HEARD_OF,
    OUTCOME_UNKNOWN,
    OUTPUT_GONE,
    PIPE,
    RUNNING,
    STDERR,
    STDOUT,
    UNKNOWN,
    WAITING,
    Attach,
    Attached,
    Exited,
    Lost,
    Message,
    Output,
    Queued,
    Start,
    Started,
    StartFailed,
)
from smartsim_bridge.server.allowance import Allowance
from smartsim_bridge.server.audit import Caller
from smartsim_bridge.server.backlog import Backlog
from smartsim_bridge.server.commands import Command
from smartsim_bridge.server.exits import ExitWatch
from smartsim_bridge.server.journal import Journal
from smartsim_bridge.server.register import Register
from smartsim_bridge.server.spool import Spool
from smartsim_bridge.server.surroundings import Gone, Surroundings
from tests.support.loops import run
from tests.support.waiting import PATIENCE, wait_until_async

Kind = TypeVar("Kind", bound=Message)


class Ear:
    """A session that only listens."""

    def __init__(self, name: str = "a") -> None:
        self.id = name
        self.caller = Caller(name, "test", "0")
        self.all: list[Message] = []

    def post(self, message: Message) -> None:
        self.all.append(message)

    def heard(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.all if isinstance(message, kind)]

    def output(self, stream: int = STDOUT) -> bytes:
        return b"".join(one.payload for one in self.heard(Output) if one.stream == stream)

    async def end(self) -> Exited:
        await wait_until_async(lambda: any(one.final for one in self.heard(Exited)))
        return self.heard(Exited)[-1]

    async def until(self, kind: type[Message]) -> None:
        await wait_until_async(lambda: self.heard(kind))


class Office:
    """A register with all that it needs; another one may follow it on the same journal."""

    def __init__(self, directory: Path, limit: int = 100, allow: Allowance | None = None) -> None:
        self.directory = directory
        self.watch = ExitWatch()
        self.backlog = Backlog(limit)
        self.journal = Journal(f"{directory}/journal")
        self.spool = Spool(f"{directory}/spool")
        surroundings = Surroundings(
            {"PATH": os.environ["PATH"]}, self.watch, str(directory), self.journal, self.spool
        )
        self.register = Register(surroundings, self.backlog, allow)

    async def close(self) -> None:
        """Killed: what its commands do now, the journal does not hear."""
        self.journal.close()
        await self.register.settle(PATIENCE)
        for command in self.backlog.commands:
            command.terminate(0.0)
            command.kill()
        await wait_until_async(lambda: not self.backlog.commands)
        self.watch.close()

    def asked(self, line: str, name: str = "c", number: int = 1, **options: object) -> Start:
        """A Start of a shell line that first leaves a trace of its run."""
        line = f"echo x >>{self.directory}/{name}.runs; {line}"
        request = Start(name, (line,), shell=True, stdin="null", number=number)
        return Start(**{**request.__dict__, **options})

    def runs(self, name: str = "c") -> int:
        path = self.directory / f"{name}.runs"
        return path.read_text().count("x") if path.exists() else 0

    def command(self, name: str = "c") -> Command:
        found = self.register.find(name)
        assert found is not None
        return found


@asynccontextmanager
async def office(
    directory: Path, limit: int = 100, allow: Allowance | None = None
) -> AsyncIterator[Office]:
    made = Office(directory, limit, allow)
    try:
        yield made
    finally:
        await made.close()


def test_waiting_command_asked_for_again_says_that_it_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, limit=1) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("cat", "first", stdin=PIPE), ear)
            there.register.start(there.asked("echo done", number=2), ear)
            assert ear.heard(Queued) == [Queued("c", 1)]
            there.register.start(there.asked("echo done", number=2), again)
            assert again.heard(Attached)[0].pid == 0
            there.command("first").terminate(0.0)
            assert (await again.end()).code == 0
            assert again.output() == b"done\n"
            assert there.runs() == 1

    run(main())


def test_submission_asked_for_again_before_the_disk_has_it_runs_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("echo done", keep=True), ear)
            assert not there.backlog.commands  # the disk is asked first
            there.register.start(there.asked("echo done", keep=True), again)
            assert again.heard(Attached)[0].pid == 0
            await again.end()
            assert again.output() == b"done\n"
            assert ear.output() == b""
            assert there.runs() == 1

    run(main())


def test_submission_does_not_start_while_the_server_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("echo done", keep=True), ear)
            there.backlog.is_closed = True
            await there.register.settle(PATIENCE)
            await ear.until(StartFailed)
            assert ear.heard(StartFailed)[0].errno == errno.ECANCELED
            assert not there.runs()

    run(main())


def test_submission_that_is_ended_before_the_disk_has_it_never_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("echo done", keep=True), ear)
            there.command().terminate(0.0)
            await there.register.settle(PATIENCE)
            await asyncio.sleep(0)
            assert ear.heard(StartFailed)
            assert not there.runs()
            assert not there.backlog.commands

    run(main())


def test_running_command_asked_for_again_says_all_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("echo early; exec cat", stdin=PIPE), ear)
            await ear.until(Output)
            there.register.start(there.asked("echo early; exec cat", stdin=PIPE), again)
            (attached,) = again.heard(Attached)
            assert attached.pid == ear.heard(Started)[0].pid
            assert again.output() == b"early\n"
            there.command().terminate(0.0)
            assert (await again.end()).signal
            assert there.runs() == 1

    run(main())


def test_exited_command_whose_output_is_held_open_says_so_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("echo one; sleep 60 & exit 5"), ear)
            await ear.until(Exited)
            there.register.start(there.asked("echo one; sleep 60 & exit 5"), again)
            assert again.output() == b"one\n"
            assert again.heard(Exited) == [Exited("c", 5, None, final=False)]
            assert next(there.register.entries(1)).state == EXITED
            there.command().terminate(0.0)
            assert (await again.end()).code == 5
            assert there.runs() == 1

    run(main())


def test_ended_command_asked_for_again_says_all_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("echo out; echo err >&2; exit 3"), ear)
            await ear.end()
            there.register.start(there.asked("echo out; echo err >&2; exit 3"), again)
            assert (again.output(), again.output(STDERR)) == (b"out\n", b"err\n")
            assert again.heard(Exited) == [Exited("c", 3, None)]
            assert there.runs() == 1

    run(main())


def test_failed_start_fails_again_in_the_same_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again, late = Ear(), Ear(), Ear()
            there.register.start(Start("c", ("no-such-program",), number=1), ear)
            (failed,) = ear.heard(StartFailed)
            there.register.start(Start("c", ("no-such-program",), number=1), again)
            assert again.all == [failed]
            there.register.forget(["c"], again)
            there.register.start(Start("c", ("no-such-program",), number=1), late)
            assert late.all == [failed]

    run(main())


def test_refused_command_is_refused_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, allow=Allowance(["true"], "/bin:/usr/bin")) as there:
            ear, again = Ear(), Ear()
            there.register.start(Start("c", ("sh", "-c", "true"), number=1), ear)
            assert ear.heard(StartFailed)[0].errno == errno.EPERM
            there.register.start(Start("c", ("sh", "-c", "true"), number=1), again)
            assert again.all == ear.all
            assert not there.backlog.commands

    run(main())


def test_forgotten_command_is_not_run_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, again = Ear(), Ear()
            there.register.start(there.asked("echo done"), ear)
            await ear.end()
            there.register.forget(["c", "never"], ear)
            assert there.register.find("c") is None
            there.register.start(there.asked("echo done"), again)
            assert [one.reason for one in again.heard(Lost)] == [OUTPUT_GONE]
            assert there.runs() == 1

    run(main())


def test_command_may_be_forgotten_over_another_link(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("echo done"), ear)
            await ear.end()
            there.command().unfollow(Gone.BROKEN)
            there.register.forget(["c"], Ear("stranger"))
            assert there.register.find("c") is not None
            there.register.forget(["c"], Ear())
            assert there.register.find("c") is None
            assert there.spool.in_memory == 0

    run(main())


def test_running_command_is_not_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("exec sleep 60"), ear)
            there.register.forget(["c"], ear)
            assert there.command().follower is ear

    run(main())


@pytest.mark.parametrize("size", [10, 20_000])
def test_pushed_out_command_is_answered_from_the_journal(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.server.register.MAX_ENDED", 2)

    async def main() -> None:
        async with office(tmp_path) as there:
            again = Ear()
            for number, name in enumerate(("c", "d", "e"), 1):
                ear = Ear()
                there.register.start(
                    there.asked(f"head -c {size} /dev/zero", name, number=number), ear
                )
                await ear.end()
            assert there.register.find("c") is None
            there.register.start(there.asked("true"), again)
            if size == 10:
                assert again.output() == bytes(10)
                assert again.heard(Exited) == [Exited("c", 0, None)]
            else:
                assert [one.reason for one in again.heard(Lost)] == [OUTPUT_GONE]
            assert there.runs() == 1

    run(main())


def test_who_reads_what_is_pushed_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.server.register.MAX_ENDED", 1)

    async def main() -> None:
        async with office(tmp_path) as there:
            ear, slow = Ear(), Ear("slow")
            there.register.start(there.asked("seq 1000000", keep=True), ear)
            there.command().detach()
            await wait_until_async(lambda: next(there.register.entries(1)).state == ENDED)
            there.register.attach(Attach("c"), slow)
            assert not any(one.final for one in slow.heard(Exited))
            there.register.start(there.asked("true", "d", number=2), ear)
            await ear.end()
            assert [one.reason for one in slow.heard(Lost)] == [OUTPUT_GONE]
            assert there.spool.on_disk == there.spool.in_memory == 0

    run(main())


def test_what_nobody_came_for_is_dropped_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("true"), ear)
            await ear.end()
            there.register.tidy()
            assert there.register.find("c") is not None
            monkeypatch.setattr("smartsim_bridge.server.register.KEPT_SECONDS", -1.0)
            there.register.tidy()
            assert there.register.find("c") is None
            assert not there.register._ended

    run(main())


@pytest.mark.parametrize("offset", [-1, -(2**62), 4, 2**62])
def test_offsets_out_of_range_mean_the_beginning_or_the_end(offset: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, live, stored = Ear(), Ear(), Ear()
            there.register.start(there.asked("printf abc"), ear)
            await ear.end()
            there.register.attach(Attach("c", offset, offset), live)
            there.register._drop("c")
            there.register.attach(Attach("c", offset, offset), stored)
            for each in (live, stored):
                (attached,) = each.heard(Attached)
                assert attached.stdout == (0 if offset < 0 else 3)
                assert attached.stderr == 0
                assert each.output() == (b"abc" if offset < 0 else b"")
                assert each.heard(Exited)[-1] == Exited("c", 0, None)

    run(main())


def test_number_that_was_used_starts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("true", number=7), ear)
            await ear.end()
            there.register.start(there.asked("true", "d", number=7), ear)
            assert [one.reason for one in ear.heard(Lost)] == [OUTCOME_UNKNOWN]
            assert not there.runs("d")
            there.register.start(there.asked("true", "d", number=8), ear)
            await wait_until_async(lambda: there.runs("d"))

    run(main())


def test_unknown_command_is_said_to_be_unknown(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.attach(Attach("c"), ear)
            assert [one.reason for one in ear.heard(Lost)] == [NEVER_HEARD_OF]

    run(main())


# --- after another server took over


LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "waiting": ("true", {}),
    "syncing": ("true", {"keep": True}),
    "running": ("exec sleep 60", {}),
    "held open": ("echo one; sleep 60 & exit 5", {}),
    "over": ("echo one; exit 5", {}),
    "failed": ("true", {"cwd": "/no/such/directory"}),
    "forgotten": ("echo one", {}),
}


async def _bring_to(state: str, there: Office, ear: Ear) -> None:
    if state == "waiting":
        there.register.start(there.asked("exec sleep 60", "first", number=1), Ear())
    line, options = LINES[state]
    there.register.start(there.asked(line, number=2, **options), ear)
    if state == "running":
        await wait_until_async(there.runs)
    elif state == "held open":
        await ear.until(Exited)
    elif state in ("over", "forgotten"):
        await ear.end()
    if state == "forgotten":
        there.register.forget(["c"], ear)


@pytest.mark.parametrize("state", LINES)
def test_next_server_runs_nothing_again(state: str, tmp_path: Path) -> None:
    async def main() -> None:
        ear, again = Ear(), Ear()
        async with office(tmp_path, limit=1) as there:
            await _bring_to(state, there, ear)
        runs = there.runs()
        async with office(tmp_path) as there:
            assert there.journal.knows("a")
            line, options = LINES[state]
            there.register.start(there.asked(line, number=2, **options), again)
            assert there.runs() == runs
            assert not there.backlog.commands
            entry = next(one for one in there.register.entries(1) if one.command == "c")
        if state == "over":
            assert again.output() == b"one\n"
            assert again.heard(Exited) == [Exited("c", 5, None)]
            assert entry.state == ENDED
        elif state == "failed":
            assert again.all == ear.all
            assert entry.state == FAILED
        else:
            reason = OUTPUT_GONE if state == "forgotten" else OUTCOME_UNKNOWN
            assert [one.reason for one in again.heard(Lost)] == [reason]
            assert entry.state == (ENDED if state == "forgotten" else UNKNOWN)

    run(main())


def test_entries_tell_state_and_size_of_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, limit=1) as there:
            ear = Ear()
            there.register.start(there.asked("printf abc; printf d >&2", "one"), ear)
            await ear.end()
            there.register.start(there.asked("exec sleep 60", "two", number=2, keep=False), ear)
            there.register.start(there.asked("true", "three", number=3), ear)
            there.command("two").detach()
            entries = {entry.command: entry for entry in there.register.entries(9)}
            assert [entry.state for entry in entries.values()] == [ENDED, RUNNING, WAITING]
            assert (entries["one"].stdout, entries["one"].stderr) == (3, 1)
            assert (entries["one"].followed, entries["two"].followed) == (True, False)
            assert (entries["two"].keep, entries["three"].keep) == (True, False)
            assert {entry.request for entry in entries.values()} == {9}

    run(main())


def test_entries_tell_the_size_of_what_is_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("printf abc; printf d >&2"), ear)
            await ear.end()
            there.register.forget(["c"], ear)
            entry = next(there.register.entries(1))
            assert (entry.state, entry.stdout, entry.stderr) == (ENDED, 3, 1)

    run(main())
