"""Who follows a command, who takes it over, and how long it waits for nobody."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.flow import WINDOW
from smartsim_bridge.protocol.messages import (
    PIPE,
    STDOUT,
    Attach,
    Attached,
    Detach,
    Detached,
    Exited,
    Forget,
    Input,
    InputTaken,
    Lost,
    Output,
    OutputClosed,
    Queued,
    Report,
    Signal,
    Start,
    StartFailed,
    Terminate,
)
from smartsim_bridge.server.commands import Command
from smartsim_bridge.server.sessions import Session
from smartsim_bridge.server.spool import Kept
from smartsim_bridge.server.surroundings import Gone
from tests.server.talks import Hearing, Talk, Told, in_session
from tests.server.test_register import Ear, Office, office
from tests.support.loops import run
from tests.support.waiting import wait_until_async

OTHER = "b"


def _another(session: Session, name: str = OTHER) -> tuple[Talk, Session]:
    """Another client of the same server."""
    near, far = memory_links()
    other = Session(
        name,
        far,
        session._register,
        on_inquiry=lambda asked: Report(asked.request, "0.1", "login1", 1, 0.0, 1, 0),
        on_stop=lambda request: None,
    )
    far.deliver(Hearing(other))
    return Talk(near), other


def _sleep(there: Office, ear: Ear, name: str, number: int, grace: float | None) -> Command:
    there.register.start(Start(name, ("sleep", "60"), number=number, grace=grace), ear)
    return there.command(name)


# --- whose client is gone


@pytest.mark.parametrize("gone", [Gone.BROKEN, Gone.SILENT])
def test_command_whose_client_comes_back_in_time_goes_on(gone: Gone, tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            found = _sleep(there, ear, "found", 1, 0.1)
            left = _sleep(there, ear, "left", 2, 0.15)
            for command in (found, left):
                command.unfollow(gone)
            there.register.attach(Attach("found"), ear)
            await wait_until_async(lambda: left.lifecycle.is_over)
            assert not found.lifecycle.is_over
            assert found._grace is None

    run(main())


def test_each_absence_has_its_whole_grace(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            command = _sleep(there, ear, "c", 1, 600.0)
            loop = asyncio.get_running_loop()
            for _ in range(5):
                command.unfollow(Gone.BROKEN)
                assert command._grace is not None
                assert command._grace.when() > loop.time() + 300
                command.follow(ear, Attach("c"))
            assert command.lifecycle.state.value == "running"
            command.request = replace(command.request, grace=0.1)  # that of the last is seen to end
            command.unfollow(Gone.BROKEN)
            await wait_until_async(lambda: command.lifecycle.is_over)

    run(main())


def test_who_keeps_a_command_or_lets_go_of_it_leaves_no_clock(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(Start("kept", ("sleep", "60"), keep=True, grace=0.0), ear)
            await wait_until_async(lambda: there.command("kept").pid)
            free = _sleep(there, ear, "free", 1, 0.0)
            left = _sleep(there, ear, "left", 2, 0.0)
            free.detach()
            for command in (there.command("kept"), left):
                command.unfollow(Gone.CLOSED)
            await wait_until_async(lambda: left.lifecycle.is_over)
            assert not free.lifecycle.is_over
            assert not there.command("kept").lifecycle.is_over
            assert free._grace is None

    run(main())


def test_command_that_does_not_want_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.server.commands.KILL_AFTER", 0.1)

    async def main() -> None:
        async with office(tmp_path) as there:
            ear, late = Ear(), Ear()
            line = "trap '' TERM; echo on; while :; do sleep 0.05; done"
            there.register.start(there.asked(line, grace=0.0), ear)
            await ear.until(Output)
            there.command().unfollow(Gone.BROKEN)
            await wait_until_async(lambda: there.command().lifecycle.is_over)
            there.register.attach(Attach("c"), late)
            assert (await late.end()).signal == signal.SIGKILL

    run(main())


def test_waiting_command_whose_client_is_gone_never_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, limit=1) as there:
            ear, late = Ear(), Ear()
            first = _sleep(there, ear, "first", 1, None)
            there.register.start(there.asked("true", number=2, grace=0.0), ear)
            assert ear.heard(Queued) == [Queued("c", 1)]
            there.command().unfollow(Gone.BROKEN)
            await wait_until_async(lambda: not there.backlog.waiting)
            there.register.attach(Attach("c"), late)
            assert late.heard(StartFailed)[0].errno == errno.ECANCELED
            first.kill()
            await wait_until_async(lambda: not there.backlog.commands)
            assert not there.runs()

    run(main())


@pytest.mark.parametrize(
    ("number", "ends"),
    [
        (signal.SIGTERM, True),
        (signal.SIGINT, True),
        (signal.SIGKILL, True),
        (signal.SIGUSR1, False),
        (signal.SIGCONT, False),
        (0, False),
        (-9, False),
        (2**40, False),
    ],
)
def test_signal_for_a_waiting_command_ends_it_or_nothing(
    number: int, ends: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with office(tmp_path, limit=1) as there:
            ear = Ear()
            first = _sleep(there, ear, "first", 1, None)
            there.register.start(there.asked("true", number=2), ear)
            there.command().signal(number)
            assert bool(ear.heard(StartFailed)) == ends
            first.kill()
            await wait_until_async(lambda: not there.backlog.commands)
            assert there.runs() == (0 if ends else 1)

    run(main())


@pytest.mark.parametrize("number", [0, -1, 65, 999, 2**40])
def test_terminate_with_an_impossible_signal_terminates(number: int) -> None:
    async def main() -> None:
        async with in_session() as (client, _, _):
            client.start("c", "sleep", "60")
            client.link.send(Terminate("c", 600.0, number))
            assert (await client.over("c")).end.signal == signal.SIGTERM
            assert not client.is_lost

    run(main())


# --- another client takes over


def test_one_client_follows_at_a_time() -> None:
    async def main() -> None:
        async with in_session() as (client, session, _):
            client.start("c", "cat", stdin=PIPE)
            client.feed("c", b"first\n")
            await client.until(lambda: client.commands["c"].out)
            other, _ = _another(session)
            other.commands["c"] = Told()
            other.link.send(Attach("c", stdout=6))
            await other.until(lambda: any(isinstance(one, Attached) for one in other.all))
            await client.until(lambda: client.all[-1] == Detached("c"))
            attached = next(one for one in other.all if isinstance(one, Attached))
            assert (attached.stdout, attached.stdin, attached.argv) == (6, 6, ("cat",))
            # What the former one says crossed our word, and counts no more.
            for late in (Terminate("c", 0.0), Signal("c", 9), OutputClosed("c", STDOUT)):
                client.link.send(late)
            client.feed("c", b"late\n", offset=6)
            other.commands["c"].out += b"first\n"
            other.feed("c", b"second\n", offset=6, eof=True)
            assert (await other.over("c")).out == b"first\nsecond\n"
            assert not client.is_lost
            await other.close()

    run(main())


def test_new_input_begins_behind_what_the_former_client_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, other = Ear(), Ear(OTHER)
            there.register.start(Start("c", ("sleep", "60")), ear)
            command = there.command()
            for offset in range(0, WINDOW, WINDOW // 4):
                command.input(Input("c", offset, payload=bytes(WINDOW // 4)))
            command.follow(other, Attach("c"))
            (attached,) = other.heard(Attached)
            (taken,) = other.heard(InputTaken)
            assert attached.stdin == WINDOW
            assert taken.offset < WINDOW  # the pipe holds the beginning; the rest is under way

    run(main())


def test_signals_are_counted_for_who_sent_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, other = Ear(), Ear(OTHER)
            command = _sleep(there, ear, "c", 1, None)
            for _ in range(3):
                command.signal(signal.SIGCONT)
            command.follow(ear, Attach("c"))
            command.follow(other, Attach("c"))
            command.signal(signal.SIGCONT)
            command.follow(other, Attach("c"))
            assert [one.signals for one in ear.heard(Attached)] == [3]
            assert [one.signals for one in other.heard(Attached)] == [0, 1]

    run(main())


def test_who_was_away_is_told_once_and_may_then_take_it_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, other, back = Ear(), Ear(OTHER), Ear()
            command = _sleep(there, ear, "c", 1, None)
            command.unfollow(Gone.SILENT)
            command.follow(other, Attach("c"))
            assert ear.heard(Detached) == []
            command.follow(back, Attach("c", resume=True))
            assert back.all == [Detached("c")]
            assert command.follower is other
            command.follow(back, Attach("c"))
            assert command.follower is back
            assert other.heard(Detached) == [Detached("c")]

    run(main())


def test_who_was_told_over_a_link_that_broke_is_told_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, other, back = Ear(), Ear(OTHER), Ear()
            command = _sleep(there, ear, "c", 1, None)
            command.follow(other, Attach("c"))
            assert ear.heard(Detached) == [Detached("c")]
            command.follow(back, Attach("c", resume=True))
            assert back.all == [Detached("c")]
            assert command.follower is other

    run(main())


def test_who_let_go_of_it_may_attach_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, other = Ear(), Ear(OTHER)
            command = _sleep(there, ear, "c", 1, None)
            command.detach()
            command.follow(other, Attach("c"))
            command.detach()
            command.follow(ear, Attach("c"))
            assert command.follower is ear
            assert ear.heard(Detached) == other.heard(Detached) == []

    run(main())


def test_detach_over_the_link_keeps_output_for_whoever_comes() -> None:
    async def main() -> None:
        async with in_session() as (client, session, backlog):
            client.unread.add("c")  # what is acknowledged before is not kept
            client.start("c", "sh", "-c", "seq 1000; read x; seq 1000", stdin=PIPE, grace=0.0)
            await client.until(lambda: client.commands["c"].out.endswith(b"1000\n"))
            client.link.send(Detach("c"))
            await wait_until_async(lambda: session.commands == [])
            session.leave(Gone.CLOSED)
            other, _ = _another(session)
            other.commands["c"] = Told()
            other.link.send(Attach("c"))
            other.feed("c", b"on\n", eof=True)
            seq = b"".join(b"%d\n" % number for number in range(1, 1001))
            assert (await other.over("c")).out == 2 * seq
            assert backlog.running == 0
            await other.close()

    run(main())


# --- what its follower is told


def test_closed_streams_do_not_hold_up_the_last_word(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear, late = Ear(), Ear()
            there.register.start(there.asked("seq 1000000", keep=True), ear)
            there.command().detach()
            await wait_until_async(lambda: there.command().lifecycle.is_over)
            there.register.attach(Attach("c"), late)
            told = Exited("c", 0, None, final=False)  # though its output is not yet read
            assert late.heard(Exited) == [told]
            there.command().close_output(STDOUT)
            assert late.heard(Exited) == [told, Exited("c", 0, None)]

    run(main())


def test_acknowledgements_are_not_answered_again_and_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            there.register.start(there.asked("printf abc"), ear)
            await ear.end()
            before = len(ear.all)
            for offset in (1, 2, 3, 3):
                there.command().output_taken(STDOUT, offset)
            assert len(ear.all) == before

    run(main())


def test_unknown_stream_is_let_pass(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as there:
            ear = Ear()
            command = _sleep(there, ear, "c", 1, None)
            for stream in range(-5, 100, 5):
                command.close_output(stream)
                command.output_taken(stream, 7)
            assert command._unwanted == set()

    run(main())


def test_damaged_spool_is_told_and_its_command_gets_a_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(kept: Kept, offset: int, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        async with office(tmp_path) as there:
            ear, late = Ear(), Ear()
            there.register.start(there.asked("echo one; exec sleep 60", grace=0.0), ear)
            await ear.until(Output)
            command = there.command()
            monkeypatch.setattr(Kept, "read", damaged)
            command.follow(late, Attach("c"))
            assert late.heard(Lost)[0].reason == "output gone"
            assert command.follower is None
            monkeypatch.undo()
            await wait_until_async(lambda: command.lifecycle.is_over)

    run(main())


def test_asking_for_what_is_not_there_leaves_nothing() -> None:
    async def main() -> None:
        async with in_session() as (client, session, _):
            client.start("over", "true", number=1)
            await client.over("over")
            for number in range(100):
                client.link.send(Attach(f"{number}" * 1000))
                client.link.send(Start(f"{number}", ("true",), number=1))
            await client.until(lambda: sum(isinstance(one, Lost) for one in client.all) == 200)
            client.link.send(Forget(("over",)))
            await wait_until_async(lambda: not session._asked)

    run(main())
