from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

from smartsim_bridge.protocol.messages import NULL, PIPE, STDERR, STDOUT
from smartsim_bridge.server.exits import ExitWatch
from smartsim_bridge.server.processes import Process
from tests.support.footprint import own_descriptors
from tests.support.loops import run

ENVIRONMENT = {b"PATH": b"/usr/bin:/bin"}


class Owner:
    """Has as much room as the test gives it (processes.Owner)."""

    def __init__(self, room: int = 10**9) -> None:
        self.rooms = {STDOUT: room, STDERR: room}
        self.came = {STDOUT: b"", STDERR: b""}
        self.events: list[str] = []
        self.written = 0
        self.over = asyncio.get_running_loop().create_future()
        self.full = asyncio.get_running_loop().create_future()

    def room(self, stream: int) -> int:
        if self.rooms[stream] <= 0 and not self.full.done():
            self.full.set_result(None)
        return self.rooms[stream]

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        assert len(data) <= self.rooms[stream]
        self.rooms[stream] -= len(data)
        self.came[stream] += data
        if eof:
            self.events.append(f"end of {stream}")

    def input_written(self, count: int, broken: bool) -> None:
        self.written += count
        if broken:
            self.events.append("broken")

    def exited(self) -> None:
        self.events.append("exited")

    def drained(self) -> None:
        self.events.append("drained")
        self.over.set_result(None)


def process(owner: Owner, *argv: str, **options: Any) -> Process:
    ways = {"stdin": NULL, "stdout": PIPE, "stderr": PIPE, **options}
    return Process(argv, owner, ExitWatch(), cwd="/", environment=ENVIRONMENT, **ways)


def test_end_is_told_once_and_last() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "sh", "-c", "echo out; echo err >&2; exit 3")
        await owner.over
        assert owner.came == {STDOUT: b"out\n", STDERR: b"err\n"}
        assert owner.events[-1] == "drained"
        assert owner.events.count("drained") == 1
        assert {"end of 1", "end of 2"} <= set(owner.events)
        assert (mine.returncode, mine.is_over) == (3, True)

    run(talk())


def test_no_more_is_read_than_there_is_room_for() -> None:
    async def talk() -> None:
        owner = Owner(room=1000)
        mine = process(owner, "head", "-c", "5000", "/dev/zero")
        await owner.full
        assert len(owner.came[STDOUT]) == 1000
        owner.rooms[STDOUT] = 10**9
        mine.resume(STDOUT)
        await owner.over
        assert len(owner.came[STDOUT]) == 5000

    run(talk())


def test_resuming_what_is_not_paused_does_nothing() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "true")
        mine.resume(STDOUT)
        await owner.over
        mine.resume(STDOUT)
        mine.resume(STDERR)

    run(talk())


def test_large_input_is_written_as_it_is_read() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "wc", "-c", stdin=PIPE)
        for _ in range(30):
            mine.write(bytes(100_000))
        mine.end_input()
        await owner.over
        assert owner.came[STDOUT].split() == [b"3000000"]
        assert owner.written == 3_000_000

    run(talk())


def test_input_that_nobody_reads_breaks() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "sh", "-c", "exec <&-; sleep 0.1", stdin=PIPE)
        for _ in range(30):
            mine.write(bytes(100_000))
        await owner.over
        assert "broken" in owner.events
        assert owner.written == 3_000_000
        mine.write(b"more")
        assert owner.written == 3_000_004

    run(talk())


def test_abandoned_process_tells_the_end_of_its_streams() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "sleep", "60", stdin=PIPE)
        mine.write(bytes(10**6))
        mine.abandon()
        assert {"broken", "end of 1", "end of 2"} <= set(owner.events)
        mine.signal_group(signal.SIGKILL)
        await owner.over
        assert mine.returncode == -signal.SIGKILL
        mine.abandon()
        mine.kill()

    run(talk())


def test_group_is_not_signalled_once_it_is_over() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "true")
        await owner.over
        called: list[int] = []
        killpg = os.killpg
        os.killpg = lambda group, number: called.append(group)
        try:
            mine.signal_group(signal.SIGTERM)
        finally:
            os.killpg = killpg
        assert called == []

    run(talk())


def test_descriptors_are_given_back() -> None:
    async def talk() -> None:
        watch = len(own_descriptors())
        for _ in range(5):
            owner = Owner()
            mine = process(owner, "cat", stdin=PIPE)
            mine.write(b"x")
            mine.end_input()
            await owner.over
        assert len(own_descriptors()) == watch

    run(talk())


def test_program_that_cannot_be_started_leaves_no_descriptor() -> None:
    async def talk() -> None:
        before = len(own_descriptors())
        for _ in range(5):
            with suppress(OSError):
                process(Owner(), "no-such-program-here", stdin=PIPE)
        assert len(own_descriptors()) == before

    run(talk())


def test_repr_tells_pid_and_state() -> None:
    async def talk() -> None:
        owner = Owner()
        mine = process(owner, "cat", stdin=PIPE)
        assert repr(mine) == f"<Process {mine.pid}: running>"
        mine.end_input()
        await owner.over
        assert repr(mine) == f"<Process {mine.pid}: returncode 0>"

    run(talk())
