from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smartsim_bridge.protocol.flow import WINDOW
from smartsim_bridge.protocol.messages import PIPE, Inquiry, Ping, Pong, Report, Start, Terminate
from smartsim_bridge.server import commands, spool
from smartsim_bridge.server.surroundings import Gone
from tests.server.talks import in_session
from tests.support.loops import run
from tests.support.waiting import wait_until_async


def test_excess_commands_wait_for_their_turn() -> None:
    async def talk() -> None:
        async with in_session(limit=2) as (client, _, backlog):
            for name in ("a", "b", "c"):
                client.start(name, "cat", stdin=PIPE)
            await client.until(lambda: client.commands["b"].pid)
            assert backlog.running == 2
            assert not client.commands["c"].pid
            client.feed("a", b"", eof=True)
            await client.until(lambda: client.commands["c"].pid)
            for name in ("b", "c"):
                client.feed(name, b"", eof=True)
                await client.over(name)
            assert backlog.running == 0

    run(talk())


def test_input_for_a_waiting_command_is_kept() -> None:
    async def talk() -> None:
        async with in_session(limit=1) as (client, _, _):
            client.start("a", "cat", stdin=PIPE)
            client.start("b", "cat", stdin=PIPE)
            client.feed("b", b"early ")
            client.feed("b", b"bird", offset=6, eof=True)
            client.feed("a", b"", eof=True)
            assert (await client.over("b")).out == b"early bird"

    run(talk())


def test_waiting_command_that_is_terminated_never_runs(tmp_path: object) -> None:
    async def talk() -> None:
        async with in_session(limit=1) as (client, _, _):
            client.start("a", "cat", stdin=PIPE)
            client.start("b", "touch", f"{tmp_path}/ran")
            client.link.send(Terminate("b", 0.0))
            failed = (await client.over("b")).failed
            assert failed is not None
            assert failed.errno == errno.ECANCELED
            client.feed("a", b"", eof=True)
            await client.over("a")
            assert not os.listdir(str(tmp_path))

    run(talk())


def test_what_waits_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAITING_BYTES", 100_000)

    async def talk() -> None:
        async with in_session(limit=1) as (client, _, _):
            client.start("first", "cat", stdin=PIPE)
            client.start("light", "cat", stdin=PIPE)
            client.start("heavy", "echo", "x" * 90_000)
            client.start("heavier", "echo", "x" * 90_000)
            refused = (await client.over("heavier")).failed
            assert refused is not None
            assert refused.errno == errno.ENOBUFS
            client.feed("light", b"x" * 50_000)
            refused = (await client.over("light")).failed
            assert refused is not None
            assert refused.errno == errno.ENOBUFS
            client.feed("first", b"", eof=True)
            assert (await client.over("heavy")).end.code == 0
            # What has run or was refused weighs no more.
            assert (await client.run("echo", "x" * 90_000)).end.code == 0

    run(talk())


@pytest.mark.slow
def test_long_row_of_commands_that_fail_to_start_is_worked_off() -> None:
    async def talk() -> None:
        async with in_session(limit=1) as (client, _, backlog):
            client.start("a", "cat", stdin=PIPE)
            for number in range(600):
                client.start(f"bad{number}", "no-such-program-here")
            client.start("last", "echo", "done")
            client.feed("a", b"", eof=True)
            assert (await client.over("last")).out == b"done\n"
            assert all(told.failed for name, told in client.commands.items() if "bad" in name)
            await wait_until_async(lambda: not backlog.commands)

    run(talk(), seconds=30)


def test_same_id_while_it_runs_is_not_run_again(tmp_path: Path) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, backlog):
            request = Start("c", ("sh", "-c", f"echo x >>{tmp_path}/runs; cat"))
            client.start("c", *request.argv, stdin=PIPE)
            client.link.send(request)
            client.link.send(request)
            assert backlog.running == 1
            client.feed("c", b"", eof=True)
            await client.over("c")

    run(talk())
    assert (tmp_path / "runs").read_text() == "x\n"


def test_ping_and_inquiry_are_answered() -> None:
    async def talk() -> None:
        async with in_session() as (client, _, _):
            client.link.send(Ping(7))
            client.link.send(Inquiry(8))
            await client.until(lambda: len(client.all) == 2)
            assert client.all[0] == Pong(7)
            assert isinstance(client.all[1], Report)
            assert client.all[1].request == 8

    run(talk())


@pytest.mark.parametrize("way", [{"stdin": "file"}, {"stdout": "stdout"}, {"stderr": "/etc/x"}])
def test_unknown_way_for_a_stream_cuts_the_link(way: dict[str, str]) -> None:
    async def talk() -> None:
        async with in_session() as (client, _, backlog):
            client.start("c", "true", **way)
            await client.until(lambda: client.is_lost)
            assert backlog.running == 0

    run(talk())


@pytest.mark.parametrize("gone", list(Gone))
def test_commands_of_a_client_that_is_gone_get_their_grace(gone: Gone) -> None:
    async def talk() -> None:
        async with in_session() as (client, session, backlog):
            client.start("c", "sleep", "60", grace=0.3)
            client.start("kept", "sleep", "60", grace=0.3, keep=True)
            await client.until(lambda: all(one.pid for one in client.commands.values()))
            session.leave(gone)
            assert backlog.running == 2
            await wait_until_async(lambda: backlog.running == 1)
            assert session.commands == []

    run(talk())


def test_who_may_come_back_has_the_longer_grace() -> None:
    assert Gone.CLOSED.value < Gone.BROKEN.value < Gone.SILENT.value


def test_unread_output_of_an_ended_command_is_let_go_when_its_client_closes() -> None:
    async def talk() -> None:
        async with in_session() as (client, session, backlog):
            for name in ("a", "b"):
                client.unread.add(name)
                client.start(name, "head", "-c", str(WINDOW + 1000), "/dev/zero")
            client.start("c", "sleep", "60")
            await client.until(lambda: all(client.commands[name].exits for name in "ab"))
            assert backlog.running == 3
            session.leave(Gone.CLOSED)
            await wait_until_async(lambda: backlog.running == 1)

    run(talk())


def test_ended_command_does_not_wait_for_ever_before_a_full_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "STREAM_QUOTA", 100_000)
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; head -c 150000 /dev/zero; exit 3"

    async def talk() -> None:
        async with in_session() as (client, session, backlog):
            client.start("c", "sh", "-c", script, keep=True)
            await client.until(lambda: client.commands["c"].pid)
            session.leave(Gone.BROKEN)
            (tmp_path / "go").touch()
            await wait_until_async(lambda: not backlog.running)

    run(talk())


def test_closed_backlog_starts_nothing_more() -> None:
    async def talk() -> None:
        async with in_session(limit=1) as (client, _, backlog):
            client.start("a", "cat", stdin=PIPE)
            client.start("b", "cat")
            await client.until(lambda: client.commands["a"].pid)
            backlog.is_closed = True
            client.feed("a", b"", eof=True)
            await client.over("a")
            failed = (await client.run("true")).failed
            assert failed is not None
            assert failed.errno == errno.ESHUTDOWN
            assert backlog.running == 0

    run(talk())


def test_repr_tells_commands_and_link() -> None:
    async def talk() -> str:
        async with in_session() as (_, session, _):
            return repr(session)

    assert run(talk()) == "<Session 55555555 with 0 commands>"
