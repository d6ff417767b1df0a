"""Polls that are asked at once: one run answers, and nobody is told what was before his own act."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.messages import (
    Entry,
    ListCommands,
    Message,
    Output,
    OutputClosed,
    Report,
    Signal,
    Stop,
    Terminate,
)
from smartsim_bridge.protocol.polls import Key
from smartsim_bridge.server.backlog import Pace
from smartsim_bridge.server.commands import Command
from smartsim_bridge.server.polls import BURST, CROWD_SECONDS, MAX_PACED, RATE, Polls
from smartsim_bridge.server.runs import REMEMBERED
from smartsim_bridge.server.sessions import Session
from smartsim_bridge.server.surroundings import Gone
from tests.server.talks import Hearing, Talk, Told, hurry, in_session
from tests.support.loops import run
from tests.support.waiting import wait_until_async

MIB = 1024 * 1024


class Scheduler:
    """A squeue that counts its runs, and answers when the test says so."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.script("squeue", f"echo $$ >> {directory}/runs", self.wait("gate"), "echo no jobs")
        self.script("sbatch", "echo Submitted batch job 5")
        (directory / "runs").touch()

    def script(self, name: str, *lines: str) -> None:
        path = self.bin / name
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o700)

    def wait(self, gate: str) -> str:
        return f"while [ ! -e {self._directory}/{gate} ]; do sleep 0.01; done"

    def open(self, gate: str = "gate") -> None:
        (self._directory / gate).touch()

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in (self._directory / "runs").read_text().split()]

    @property
    def runs(self) -> int:
        return len(self.pids)


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler(tmp_path)


class Site:
    """A server with clients that talk to it."""

    def __init__(self, clients: list[Talk], sessions: list[Session], polls: Polls) -> None:
        self.clients = clients
        self.sessions = sessions
        self.polls = polls

    async def ask(self, client: int, name: str, *argv: str, **options: Any) -> Told:
        """A poll that has begun, or joined."""
        talk = self.clients[client]
        talk.start(name * 32, *(argv or ("squeue",)), **options)
        told = talk.commands[name * 32]
        await talk.until(lambda: told.pid)
        return told

    async def over(self, client: int, name: str) -> Told:
        return await self.clients[client].over(name * 32)

    def command(self, client: int, name: str) -> Command:
        return next(one for one in self.sessions[client].commands if one.id == name * 32)


def pairs(names: dict[int, list[str]]) -> Iterator[tuple[int, str]]:
    return ((client, name) for client, some in names.items() for name in some)


def neighbour(first: Session, number: int) -> tuple[Talk, Session]:
    def no_report(_: object) -> Message:
        return Report(0, "", "", 0, 0.0, 0, 0)

    def no_stop(_: Stop) -> None:
        pass

    near, far = memory_links()
    register = first._register
    session = Session(f"{number:032}", far, register, on_inquiry=no_report, on_stop=no_stop)
    far.deliver(Hearing(session))
    return Talk(near), session


@asynccontextmanager
async def site(scheduler: Scheduler, clients: int = 2, limit: int = 100) -> AsyncIterator[Site]:
    environment = {"PATH": f"{scheduler.bin}:/usr/bin:/bin"}
    async with AsyncExitStack() as stack:
        talk, session, _ = await stack.enter_async_context(in_session(environment, limit=limit))
        talks, sessions = [talk], [session]
        for number in range(1, clients):
            other, its = neighbour(session, number)
            stack.push_async_callback(other.close)
            talks.append(other)
            sessions.append(its)
        yield Site(talks, sessions, session._register._surroundings.polls)


def test_polls_of_many_clients_at_once_are_answered_by_one_run(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, 20) as here:
            names = {client: [f"{client:02x}{i}" for i in range(5)] for client in range(20)}
            asked = [await here.ask(*one) for one in pairs(names)]
            await wait_until_async(lambda: scheduler.runs)
            assert {told.pid for told in asked} == set(scheduler.pids)
            scheduler.open()
            for one in pairs(names):
                told = await here.over(*one)
                assert (bytes(told.out), bytes(told.err)) == (b"no jobs\n", b"")
                assert (told.end.code, told.end.final) == (0, True)
            assert scheduler.runs == 1
            assert (here.polls.asked, here.polls.joined) == (100, 99)
            assert [told.end.age > 0 for told in asked] == [False, *[True] * 99]

    run(talk())


def test_the_next_poll_asks_again(scheduler: Scheduler) -> None:
    async def talk() -> None:
        scheduler.open()
        async with site(scheduler) as here:
            for name in "abc":
                await here.ask(0, name)
                await here.over(0, name)
        assert scheduler.runs == 3

    run(talk())


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (("squeue", "-h"), {}),
        (("squeue",), {"cwd": "/usr"}),
        (("squeue",), {"env": {"SQUEUE_FORMAT": "%i"}}),
        (("squeue",), {"stdin": "pipe"}),
        (("squeue",), {"stderr": "stdout"}),
        (("squeue",), {"shell": True}),
    ],
)
def test_another_question_has_a_run_of_its_own(
    scheduler: Scheduler, argv: tuple[str, ...], options: dict[str, Any]
) -> None:
    async def talk() -> None:
        async with site(scheduler) as here:
            first = await here.ask(0, "a")
            other = await here.ask(1, "b", *argv, **options)
            assert first.pid != other.pid
            scheduler.open()
            assert (await here.over(1, "b")).out == (await here.over(0, "a")).out

    run(talk())


# --- what it may have missed


@pytest.mark.parametrize("when", ["started", "printed", "ended"])
def test_a_poll_sees_what_another_command_did_before(scheduler: Scheduler, when: str) -> None:
    """Whether that one started after the run in flight began, told of it, or ended."""
    scheduler.script("salloc", scheduler.wait("grant"), "echo granted", scheduler.wait("end"))

    async def talk() -> None:
        async with site(scheduler) as here:
            if when != "started":
                await here.ask(0, "1", "salloc")
            if when == "ended":
                scheduler.open("grant")
                told = here.clients[0].commands["1" * 32]
                await here.clients[0].until(lambda: told.out)
            before = await here.ask(1, "a")
            if when == "started":
                await here.ask(0, "1", "salloc")
            elif when == "printed":
                scheduler.open("grant")
                told = here.clients[0].commands["1" * 32]
                await here.clients[0].until(lambda: told.out)
            else:
                scheduler.open("end")
                await here.over(0, "1")
            after = await here.ask(1, "b")
            joined = await here.ask(0, "c")
            assert before.pid != after.pid == joined.pid
            for gate in ("gate", "grant", "end"):
                scheduler.open(gate)
            assert (await here.over(1, "a")).out == (await here.over(0, "c")).out

    run(talk())


def test_what_a_session_learnt_from_one_poll_another_does_not_take_back(
    scheduler: Scheduler,
) -> None:
    """Gone from squeue, and running in an older sacct: a program would give up."""
    scheduler.script("sacct", "echo COMPLETED")

    async def talk() -> None:
        async with site(scheduler, 3) as here:
            before = await here.ask(0, "a")
            await here.ask(1, "b", "sacct")
            await here.over(1, "b")
            after = await here.ask(1, "c")
            stranger = await here.ask(2, "d")
            assert before.pid != after.pid == stranger.pid
            scheduler.open()
            await here.over(0, "a")
            await here.over(1, "c")

    run(talk())


def test_other_polls_do_not_keep_polls_apart(scheduler: Scheduler) -> None:
    scheduler.script("sacct", "echo COMPLETED")

    async def talk() -> None:
        async with site(scheduler, 3) as here:
            first = await here.ask(0, "a")
            await here.ask(1, "b", "sacct")
            await here.over(1, "b")
            assert (await here.ask(2, "c")).pid == first.pid
            scheduler.open()
            await here.over(2, "c")

    run(talk())


# --- one of several leaves


async def remain(here: Site, scheduler: Scheduler) -> None:
    """The two others get their answer."""
    scheduler.open()
    for client, name in ((1, "b"), (2, "c")):
        told = await here.over(client, name)
        assert (bytes(told.out), told.end.code, told.end.timed_out) == (b"no jobs\n", 0, False)
    assert scheduler.runs == 1


@pytest.mark.parametrize("message", [Terminate("a" * 32, 600.0), Signal("a" * 32, signal.SIGTERM)])
def test_one_that_is_ended_leaves_the_answer_to_the_others(
    scheduler: Scheduler, message: Message
) -> None:
    async def talk() -> None:
        async with site(scheduler, 3) as here:
            for client, name in enumerate("abc"):
                await here.ask(client, name)
            here.clients[0].link.send(message)
            told = await here.over(0, "a")
            assert (told.end.code, told.end.signal, len(told.out)) == (None, signal.SIGTERM, 0)
            await remain(here, scheduler)

    run(talk())


def test_one_whose_time_is_up_does_too(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, 3) as here:
            await here.ask(0, "a", timeout=600.0)
            await here.ask(1, "b")
            await here.ask(2, "c")
            hurry(here.command(0, "a"))  # not before the others have joined
            told = await here.over(0, "a")
            assert (told.end.signal, told.end.timed_out) == (signal.SIGKILL, True)
            await remain(here, scheduler)

    run(talk())


def test_one_whose_client_is_gone_does_too(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, 3) as here:
            await here.ask(0, "a", grace=0.0)
            await here.ask(1, "b")
            await here.ask(2, "c")
            command = here.command(0, "a")
            here.sessions[0].leave(Gone.BROKEN)
            await wait_until_async(lambda: command.lifecycle.is_over)
            await remain(here, scheduler)

    run(talk())


def test_one_that_reads_no_more_does_too(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, 3) as here:
            for client, name in enumerate("abc"):
                await here.ask(client, name)
            here.clients[0].link.send(OutputClosed("a" * 32, 1))
            await here.clients[0].until(
                lambda: 1 in here.clients[0].commands["a" * 32].ended_streams
            )
            await remain(here, scheduler)
            told = await here.over(0, "a")
            assert (told.end.code, len(told.out)) == (0, 0)

    run(talk())


def test_a_signal_that_ends_nothing_ends_nothing(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, 3) as here:
            for client, name in enumerate("abc"):
                await here.ask(client, name)
            for number in (signal.SIGSTOP, signal.SIGWINCH, signal.SIGCONT, 0):
                here.clients[0].link.send(Signal("a" * 32, number))
            await remain(here, scheduler)
            assert (await here.over(0, "a")).end.code == 0

    run(talk())


def test_the_last_that_leaves_ends_the_process(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler) as here:
            await here.ask(0, "a")
            await here.ask(1, "b")
            await wait_until_async(lambda: scheduler.runs)
            for client, name in enumerate("ab"):
                here.clients[client].link.send(Terminate(name * 32, 600.0))
                assert (await here.over(client, name)).end.signal == signal.SIGTERM
            with pytest.raises(ProcessLookupError):
                os.kill(scheduler.pids[0], 0)
            again = await here.ask(0, "c")  # not that one again
            assert again.pid != scheduler.pids[0]
            scheduler.open()
            await here.over(0, "c")

    run(talk())


def test_a_failure_is_told_to_all(scheduler: Scheduler) -> None:
    scheduler.script("sinfo", scheduler.wait("gate"), "echo down >&2", "exit 3")

    async def talk() -> None:
        async with site(scheduler) as here:
            for client, name in enumerate("ab"):
                await here.ask(client, name, "sinfo")
            scheduler.open()
            for client, name in enumerate("ab"):
                told = await here.over(client, name)
                assert (told.end.code, bytes(told.err)) == (3, b"down\n")

    run(talk())


def test_one_that_is_not_installed_fails_for_each(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler) as here:
            for client in (0, 1):
                told = await here.clients[client].run("bjobs")
                assert told.failed is not None
                assert told.failed.filename == "bjobs"

    run(talk())


# --- how much it prints


def test_who_joins_late_has_it_from_the_first_byte(scheduler: Scheduler) -> None:
    scheduler.script("sinfo", "echo one; echo two >&2", scheduler.wait("gate"), "echo three")

    async def talk() -> None:
        async with site(scheduler) as here:
            first = await here.ask(0, "a", "sinfo")
            await here.clients[0].until(lambda: first.out and first.err)
            late = await here.ask(1, "b", "sinfo")
            assert late.pid == first.pid
            scheduler.open()
            for client, name in enumerate("ab"):
                told = await here.over(client, name)
                assert (bytes(told.out), bytes(told.err)) == (b"one\nthree\n", b"two\n")

    run(talk())


LARGE = f"head -c {3 * MIB} /dev/zero"


def test_a_large_answer_is_complete_for_all_and_joined_no_more(scheduler: Scheduler) -> None:
    assert REMEMBERED < 3 * MIB
    scheduler.script("sinfo", scheduler.wait("gate"), LARGE, scheduler.wait("end"), "echo end")

    async def talk() -> None:
        async with site(scheduler, 3) as here:
            first = await here.ask(0, "a", "sinfo")
            second = await here.ask(1, "b", "sinfo")
            scheduler.open()
            await here.clients[0].until(lambda: len(first.out) == 3 * MIB)
            late = await here.ask(2, "c", "sinfo")
            assert second.pid == first.pid != late.pid
            scheduler.open("end")
            for client, name in enumerate("abc"):
                told = await here.over(client, name)
                assert (len(told.out), bytes(told.out[-4:])) == (3 * MIB + 4, b"end\n")

    run(talk())


def test_one_that_reads_slowly_holds_nobody_up_and_misses_nothing(scheduler: Scheduler) -> None:
    scheduler.script("sinfo", scheduler.wait("gate"), LARGE, "echo end")

    async def talk() -> None:
        async with site(scheduler) as here:
            here.clients[0].unread.add("a" * 32)
            await here.ask(0, "a", "sinfo")
            await here.ask(1, "b", "sinfo")
            scheduler.open()
            assert len((await here.over(1, "b")).out) == 3 * MIB + 4
            slow = here.clients[0].commands["a" * 32]
            assert len(slow.out) <= MIB
            here.clients[0].read_on("a" * 32)
            assert len((await here.over(0, "a")).out) == 3 * MIB + 4

    run(talk())


def test_one_alone_that_reads_slowly_stops_the_process(scheduler: Scheduler) -> None:
    scheduler.script("sinfo", LARGE, "echo end >&2")

    async def talk() -> None:
        async with site(scheduler) as here:
            here.clients[0].unread.add("a" * 32)
            told = await here.ask(0, "a", "sinfo")
            await here.clients[0].until(lambda: len(told.out) == MIB)
            assert here.command(0, "a").sizes == (MIB, 0)
            here.clients[0].read_on("a" * 32)
            assert len((await here.over(0, "a")).out) == 3 * MIB

    run(talk())


# --- what is left of an answer


def test_a_young_answer_may_serve_again_and_says_how_old_it_is(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls.cache = 30.0
            first = await here.clients[0].run("squeue")
            again = await here.clients[1].run("squeue", announce=False)
            same = await here.clients[0].run("squeue", announce=False)
            assert bytes(first.out) == bytes(again.out) == bytes(same.out) == b"no jobs\n"
            assert scheduler.runs == 1
            assert first.end.age == 0.0 < again.end.age < same.end.age < 30.0

    run(talk())


def test_an_answer_serves_no_more_once_something_was_run(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls.cache = 30.0
            await here.clients[0].run("squeue")
            await here.clients[1].run("sbatch")
            told = await here.clients[0].run("squeue")
            assert (scheduler.runs, told.end.age) == (2, 0.0)

    run(talk())


def test_a_failure_is_kept_for_nobody(scheduler: Scheduler) -> None:
    scheduler.script("squeue", f"echo 1 >> {scheduler.bin.parent}/runs", "exit 1")

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls.cache = 30.0
            for _ in range(3):
                assert (await here.clients[0].run("squeue")).end.code == 1
            assert scheduler.runs == 3

    run(talk())


def test_an_old_answer_is_forgotten(scheduler: Scheduler) -> None:
    scheduler.open()
    now = [100.0]

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls.cache, here.polls._clock = 2.0, lambda: now[0]
            await here.clients[0].run("squeue")
            now[0] += 1.5
            assert (await here.clients[0].run("squeue")).end.age == 1.5
            now[0] += 0.5
            assert (await here.clients[0].run("squeue")).end.age == 0.0
            assert scheduler.runs == 2
            now[0] += 2.0
            assert here.polls._open
            here.polls.tidy()
            assert not here.polls._open

    run(talk())


# --- how often one question is asked


def test_who_asks_one_after_the_other_never_waits(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls._clock = lambda: 100.0  # so no pace would ever let another one pass
            for number in range(4 * BURST):  # two callers, who never meet
                asked = here.clients[number % 2].run("squeue")
                assert bytes((await asyncio.wait_for(asked, 20.0)).out) == b"no jobs\n"
            assert scheduler.runs == 4 * BURST

    run(talk())


async def ask_both_at_once(here: Site, scheduler: Scheduler) -> None:
    (scheduler.bin.parent / "gate").unlink()
    names = {0: ["a"], 1: ["b"]}
    for one in pairs(names):
        await here.ask(*one)
    scheduler.open()
    for one in pairs(names):
        await here.over(*one)


def test_several_who_ask_at_once_share_runs_at_a_pace(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with site(scheduler) as here:
            for _ in range(BURST):
                await here.clients[0].run("squeue")
            await ask_both_at_once(here, scheduler)
            asked = [here.clients[i % 2].run("squeue") for i in range(50)]
            for told in await asyncio.gather(*asked):
                assert (bytes(told.out), told.end.code) == (b"no jobs\n", 0)
            assert scheduler.runs == BURST + 2

    run(talk())


def test_a_crowd_is_one_until_it_has_been_away_for_a_while(scheduler: Scheduler) -> None:
    scheduler.open()
    now = [100.0]

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls._clock = lambda: now[0]
            key = await question(here)
            for _ in range(BURST):
                await here.clients[0].run("squeue")
            assert here.polls.seconds_before(key, "") == 0.0
            await ask_both_at_once(here, scheduler)
            assert here.polls.seconds_before(key, "") == pytest.approx(1 / RATE)
            now[0] += CROWD_SECONDS
            for _ in range(2 * BURST):
                assert here.polls.seconds_before(key, "") == 0.0
                await here.clients[0].run("squeue")

    run(talk())


@asynccontextmanager
async def one_that_waits(scheduler: Scheduler) -> AsyncIterator[Site]:
    async with site(scheduler) as here:
        asked = here.polls._questions[await question(here)]
        asked._pace = Pace(0.001, 1.0)
        asked._crowded_until = float("inf")
        await here.clients[0].run("squeue")
        here.clients[0].start("a" * 32, "squeue")
        await wait_until_async(lambda: here.sessions[0]._register._early)
        yield here


async def question(here: Site) -> Key:
    here.clients[0].start("e" * 32, "squeue")
    await wait_until_async(lambda: here.sessions[0].commands)
    key = here.command(0, "e").key
    assert key is not None
    await here.over(0, "e")
    return key


def test_one_that_waits_for_a_common_run_can_be_given_up(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with one_that_waits(scheduler) as here:
            here.clients[0].link.send(Terminate("a" * 32, 600.0))
            failed = (await here.over(0, "a")).failed
            assert failed is not None
            assert failed.errno == errno.ECANCELED

    run(talk())


def test_one_that_waits_is_not_held_back_when_the_server_settles(scheduler: Scheduler) -> None:
    scheduler.open()

    async def talk() -> None:
        async with one_that_waits(scheduler) as here:
            await here.sessions[0]._register.settle(1.0)
            assert bytes((await here.over(0, "a")).out) == b"no jobs\n"

    run(talk())


def test_only_so_many_questions_have_a_pace() -> None:
    polls = Polls()
    for number in range(1000):
        polls.enter((number,), "a")
        polls.leave((number // 2,), "a")
    assert len(polls._questions) == MAX_PACED
    assert polls.seconds_before((999,), "") == 0.0


# --- how it looks from outside


def test_the_list_says_which_were_answered_by_another_run(scheduler: Scheduler) -> None:
    now = [100.0]

    async def talk() -> None:
        async with site(scheduler) as here:
            here.polls._clock = lambda: now[0]
            first = await here.ask(0, "a")
            now[0] += 0.25
            await here.ask(1, "b")
            client = here.clients[0]
            client.link.send(ListCommands(1))
            await client.until(lambda: sum(isinstance(one, Entry) for one in client.all) == 2)
            entries = [one for one in client.all if isinstance(one, Entry)]
            assert [one.state for one in entries] == ["running", "running"]
            assert [one.pid for one in entries] == [first.pid, first.pid]
            assert entries[0].note == ""
            assert entries[1].note.startswith("answered by a run begun 0.250 s before")
            scheduler.open()
            await here.over(1, "b")

    run(talk())


def test_a_poll_waits_for_its_turn_as_any_command(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler, limit=1) as here:
            await here.ask(0, "a")
            here.clients[1].start("b" * 32, "squeue")
            await wait_until_async(lambda: len(here.sessions[1].commands) == 1)
            assert here.clients[1].commands["b" * 32].pid == 0
            scheduler.open()
            assert (await here.over(1, "b")).out == b"no jobs\n"

    run(talk())


def test_offsets_of_each_are_its_own(scheduler: Scheduler) -> None:
    async def talk() -> None:
        async with site(scheduler) as here:
            for name in "ab":
                await here.ask(0, name)
            scheduler.open()
            for name in "ab":
                await here.over(0, name)
            outputs = [one for one in here.clients[0].all if isinstance(one, Output)]
            assert {(one.command[0], one.offset) for one in outputs if one.payload} == {
                ("a", 0),
                ("b", 0),
            }

    run(talk())


def test_sessions_that_learnt_something_are_not_remembered_for_ever() -> None:
    polls = Polls()
    for number in range(5000):
        polls.learn(str(number))
    assert not polls._learnt


def test_asyncio_is_not_needed_to_make_one() -> None:
    assert repr(Polls()) == "<Polls: 0 of 0 joined, 0 open>"
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
