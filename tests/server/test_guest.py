"""The limits and the record of a real server, as somebody who looks after the host sets them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.protocol.beacon import Beacon
from smartsim_bridge.protocol.messages import PROTOCOL_VERSION, Hello, Queued, Refusal, Welcome
from tests.server.running import Fleet
from tests.server.talks import Talk
from tests.support.loops import run
from tests.support.waiting import wait_until


async def greeted(beacon: Beacon, session: str = "session-0123") -> Talk:
    link = await connect_unix(beacon.socket)
    link.send(Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "0.1", session))
    assert isinstance(await link.receive(), Welcome)
    return Talk(link)


def audit(beacon: Beacon, count: int) -> list[dict[str, Any]]:
    """So many lines, the last of which may be written after its answer has come."""
    path = Path(beacon.log).with_suffix(".audit")
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)
    assert path.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_server_with_a_list_runs_nothing_else(fleet: Fleet, tmp_path: Path) -> None:
    beacon, _ = fleet.start("--allow", "echo", "--allow", "env", "--audit")
    evil = tmp_path / "echo"
    evil.write_text("#!/bin/sh\necho evil\n")
    evil.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/bin", "LD_PRELOAD": "/nowhere.so", "MINE": "1"}

    async def talk() -> None:
        client = await greeted(beacon)
        good = await client.run("echo", "good", env=env, cwd=str(tmp_path))
        assert (bytes(good.out), bytes(good.err)) == (b"good\n", b"")
        assert (await client.run("/usr/bin/echo", "good")).out == b"good\n"
        lines = (await client.run("env", env=env)).out.splitlines()
        assert b"MINE=1" in lines
        assert f"PATH={fleet.environ['PATH']}".encode() in lines
        assert not [line for line in lines if line.startswith(b"LD_")]
        for words, shell in (
            (["touch", str(tmp_path / "ran")], False),
            ([str(evil)], False),
            (["./echo"], False),
            ([f"touch {tmp_path}/ran"], True),
            (["echo"], True),
            ([""], False),
            ([], False),
        ):
            told = await client.run(*words, shell=shell, cwd=str(tmp_path))
            assert told.failed is not None
            assert told.failed.errno == errno.EPERM
            assert "runs only: echo, env" in told.failed.text
        await client.close()

    run(talk())
    assert not (tmp_path / "ran").exists()
    failed = [line for line in audit(beacon, 13) if line["event"] == "failed"]
    assert [line["errno"] for line in failed] == [errno.EPERM] * 7


def test_audit_tells_who_ran_what_and_how_it_ended(fleet: Fleet) -> None:
    beacon, _ = fleet.start("--audit")

    async def talk() -> list[int]:
        client = await greeted(beacon)
        codes = await client.run("sh", "-c", "exit 3", env={"X": "canary"}, cwd="/tmp")
        killed = await client.run("sh", "-c", "kill -9 $$")
        missing = await client.run("no-such-program")
        assert missing.failed is not None
        await client.close()
        return [codes.pid, killed.pid]

    pids = run(talk())
    told = audit(beacon, 5)
    assert [line["event"] for line in told] == ["start", "end", "start", "end", "failed"]
    assert [told[0]["pid"], told[2]["pid"]] == pids
    assert (told[0]["argv"], told[0]["cwd"]) == (["sh", "-c", "exit 3"], "/tmp")
    assert (told[0]["uid"], told[0]["session"]) == (os.getuid(), "session-")
    assert (told[0]["peer"], told[0]["client"]) == ("unix socket", "0.1")
    assert (told[1]["code"], told[3]["signal"]) == (3, 9)
    assert (told[4]["errno"], told[4]["argv"]) == (errno.ENOENT, ["no-such-program"])
    assert "canary" not in json.dumps(told)


def test_without_asking_there_is_no_audit_and_no_list(fleet: Fleet) -> None:
    beacon, _ = fleet.start()

    async def talk() -> None:
        client = await greeted(beacon)
        assert (await client.run("echo hello", shell=True)).out == b"hello\n"
        await client.close()

    run(talk())
    assert not Path(beacon.log).with_suffix(".audit").exists()


def test_no_more_commands_run_than_asked_and_those_that_wait_are_told(fleet: Fleet) -> None:
    beacon, _ = fleet.start("--max-commands", "1")

    async def talk() -> None:
        client = await greeted(beacon)
        for name in ("a", "b", "c"):
            client.start(name, "cat", stdin="pipe")
        await client.until(lambda: sum(isinstance(m, Queued) for m in client.all) == 2)
        assert [m.ahead for m in client.all if isinstance(m, Queued)] == [1, 2]
        assert [client.commands[name].pid > 0 for name in "abc"] == [True, False, False]
        for name in ("a", "b", "c"):
            client.feed(name, b"", eof=True)
            assert (await client.over(name)).end.code == 0
        await client.close()

    run(talk())


def test_no_more_clients_are_let_in_than_asked(fleet: Fleet) -> None:
    beacon, _ = fleet.start("--max-clients", "1")

    async def talk() -> None:
        first = await greeted(beacon, "first")
        link = await connect_unix(beacon.socket)
        link.send(Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "0.1", "second"))
        refused = await link.receive()
        assert isinstance(refused, Refusal)
        assert refused.reason == "limit"
        assert "1 client" in refused.text
        await link.close()
        assert (await first.run("true")).end.code == 0
        await first.close()

    run(talk())


def test_commands_beyond_the_rate_start_a_little_later(fleet: Fleet) -> None:
    beacon, _ = fleet.start("--max-rate", "20")

    async def talk() -> float:
        client = await greeted(beacon)
        clock = asyncio.get_running_loop().time
        began = clock()
        names = [str(number) for number in range(50)]  # forty are the burst
        for name in names:
            client.start(name, "true")
        for name in names:
            assert (await client.over(name)).end.code == 0
        await client.close()
        return float(clock() - began)

    assert run(talk()) >= 10 / 20 - 0.05
