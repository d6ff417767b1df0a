"""Commands over links that break: both real halves in one loop, and links that fail at will.

A schedule drawn from a seed cuts links with what is under way on them, kills the server and
starts another on its journal, and lets a second client take commands over.  Whatever happens,
nothing runs twice, no byte is lost or doubled, every wait ends, and nothing stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.client.bridge import AsyncBridge
from smartsim_bridge.client.command import AsyncCommand
from smartsim_bridge.client.ladder import Ascent
from smartsim_bridge.client.session import Session
from smartsim_bridge.client.talk import Talk
from smartsim_bridge.errors import (
    CommandLost,
    CommandTaken,
    LinkLost,
    NoSuchCommand,
    PeerMisbehaved,
)
from smartsim_bridge.links.link import Link, LinkInfo, Mailbox
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol import codec
from smartsim_bridge.protocol.messages import (
    STDOUT,
    Attach,
    Attached,
    Bye,
    Detach,
    Exited,
    Hello,
    Inquiry,
    Message,
    Output,
    Queued,
    Report,
    Signal,
    Start,
    Started,
    StartFailed,
    Welcome,
)
from smartsim_bridge.server.backlog import Backlog
from smartsim_bridge.server.commands import Command
from smartsim_bridge.server.exits import ExitWatch
from smartsim_bridge.server.journal import MAX_RECORDS, Journal
from smartsim_bridge.server.register import Register
from smartsim_bridge.server.sessions import Session as FarSession
from smartsim_bridge.server.spool import Spool
from smartsim_bridge.server.surroundings import Surroundings
from smartsim_bridge.server.visits import Visits
from smartsim_bridge.settings import Settings
from tests.support.loops import run
from tests.support.near_side import SESSION, VERSION, talk_by_hand
from tests.support.waiting import wait_until_async

SECONDS = 120.0  # for a schedule; it takes a few, on a machine that has nothing else to do


class Wire(Link):
    """One end; a message arrives some turns of the loop later, if the wire still holds."""

    def __init__(self) -> None:
        self.info = LinkInfo("memory", "wire")
        self.mailbox = Mailbox()
        self.other: Wire = self
        self.swallows: Callable[[Message], bool] = lambda message: False
        self._under_way: deque[Message] = deque()

    def send(self, message: Message) -> None:
        if self.mailbox.fault is not None:
            raise self.mailbox.fault
        self._under_way.append(codec.decode(codec.encode(message)))
        if len(self._under_way) == 1:
            asyncio.get_running_loop().call_soon(self._carry)

    async def close(self) -> None:
        self._deliver(len(self._under_way))
        self.cut(LinkLost("The link was closed"))

    def cut(self, fault: LinkLost) -> None:
        for end in (self, self.other):
            end._under_way.clear()
        self.mailbox.close(fault)
        self.other.mailbox.close(LinkLost("The peer closed the link"))

    def snap(self, chance: random.Random) -> None:
        """Breaks: of what is under way, either way, a part still arrives."""
        for end in (self, self.other):
            end._deliver(chance.randint(0, len(end._under_way)))
        self.cut(LinkLost("The cable was pulled"))

    def _carry(self) -> None:
        self._deliver(1)
        if self._under_way:
            asyncio.get_running_loop().call_soon(self._carry)

    def _deliver(self, count: int) -> None:
        for _ in range(min(count, len(self._under_way))):
            message = self._under_way.popleft()
            if self.swallows(message):
                continue
            try:
                self.other.mailbox.put(message)
            except PeerMisbehaved as fault:
                self.other.cut(fault)
            if not self._under_way:
                return


class Head:
    """The server's half, without its sockets; one after the other on the same journal."""

    def __init__(self, directory: Path, limit: int = 100) -> None:
        self.watch = ExitWatch()
        self.backlog = Backlog(limit)
        self.journal = Journal(f"{directory}/journal")
        self.spool = Spool(f"{directory}/spool")
        self.spool.clear()
        surroundings = Surroundings(
            {"PATH": os.environ["PATH"]}, self.watch, str(directory), self.journal, self.spool
        )
        self.register = Register(surroundings, self.backlog)
        self.visits = Visits(self._answer, self._begin, lambda: None)

    def _answer(self, hello: Hello) -> Welcome:
        return Welcome(2, VERSION, "head", 17, resumed=self.journal.knows(hello.session))

    def _begin(self, link: Link, hello: Hello) -> FarSession:
        return FarSession(
            hello.session, link, self.register, on_inquiry=_report, on_stop=lambda asked: None
        )

    async def kill(self, wires: Iterable[Wire]) -> None:
        """As SIGKILL would: nothing more is heard, begun, written or said."""
        await self.register.settle(SECONDS)
        for wire in wires:
            wire.cut(LinkLost("The server was killed"))
        self.backlog.is_closed = True
        self.journal.close()
        await self.visits.close()
        for command in self.backlog.commands:
            command.terminate(0.0)
            command.kill()
        await wait_until_async(lambda: not self.backlog.running)
        self.watch.close()


async def heard(bridge: AsyncBridge) -> None:
    """Returns when the server has heard all that was said, and knows the client."""
    while True:
        with contextlib.suppress(LinkLost):
            await bridge.commands()
            return


def _report(asked: Inquiry) -> Report:
    return Report(asked.request, VERSION, "head", 17, 0.0, 1, 0)


class World:
    """A head that may be down, and the clients that find their way to it."""

    def __init__(self, directory: Path, chance: random.Random, limit: int = 100) -> None:
        self.directory = directory
        self.chance = chance
        self.wires: dict[str, Wire] = {}
        self.is_up = True
        self.can_be_reached = True
        self.kills = 0
        self.on_wire: Callable[[Wire], None] = lambda wire: None
        self._limit = limit
        self.head = Head(directory, limit)

    async def client(self, name: str, patience: float = SECONDS) -> AsyncBridge:
        session = Session(name, await self._climb(name), lambda _: self._climb(name), patience)
        bridge = AsyncBridge(session, Settings())
        await heard(bridge)
        return bridge

    async def _climb(self, name: str) -> Ascent:
        for _ in range(self.chance.randrange(20)):
            await asyncio.sleep(0)
        if not self.is_up or not self.can_be_reached:
            await asyncio.sleep(0.001)
            raise LinkLost("There is no way now")
        near, far = Wire(), Wire()
        near.other, far.other = far, near
        self.wires[name] = near
        self.on_wire(near)
        self.head.visits.accept(far)
        talk = await Talk.open(near, session=name, version=VERSION, timeout=SECONDS)
        return Ascent(talk, "memory", (), (), started=False)

    def cut(self, name: str) -> None:
        self.wires[name].snap(self.chance)

    async def restart(self) -> None:
        self.kills += 1
        self.is_up = False
        await self.head.kill(self.wires.values())
        self.head = Head(self.directory, self._limit)
        self.is_up = True

    async def turns(self, most: int) -> None:
        for _ in range(self.chance.randrange(most)):
            await asyncio.sleep(0)

    def runs(self, name: str) -> int:
        """How often the command of that name was spawned, by its own word."""
        path = self.directory / f"{name}.runs"
        return path.read_text().count("x") if path.exists() else 0

    def line(self, name: str, rest: str) -> str:
        return f"echo x >>'{self.directory}/{name}.runs'; {rest}"


@asynccontextmanager
async def world(
    directory: Path, seed: int = 0, limit: int = 100, patience: float = SECONDS
) -> AsyncIterator[tuple[World, AsyncBridge]]:
    """A head and a client; at the end nothing may be left of either, nor of any exception."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unhandled.append(told))
    made = World(directory, random.Random(seed), limit)
    bridge = await made.client("a" * 32, patience)
    try:
        yield made, bridge
    finally:
        made.can_be_reached = True
        await bridge.close()
        await made.head.kill(made.wires.values())
        gc.collect()
        await asyncio.sleep(0)
    assert unhandled == []


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartsim_bridge.client.session.SHORTEST_LIFE", 0.0)
    monkeypatch.setattr("smartsim_bridge.client.session.pauses", lambda: itertools.repeat(0.0))


# --- what a schedule may do to it


class User:
    """Asks for commands, each in its own way, and says what came of it."""

    def __init__(self, there: World, bridge: AsyncBridge) -> None:
        self._there, self._bridge = there, bridge
        self._chance = there.chance
        self.taken: set[str] = set()  # that another client takes over
        self.stolen = 0  # how many of them it has got
        self.followed: dict[str, AsyncCommand] = {}  # that a thief may want
        self.read: dict[str, bytearray] = {}
        self.whole: dict[str, bytes] = {}
        self.all: dict[str, str] = {}  # what became of each
        self.spared: set[str] = set()  # ids of what was attached to: others may do so, too

    async def do(self, number: int) -> None:
        for _ in range(number):
            await self._there.turns(40)
        ways = (self._print, self._echo, self._count_signals, self._run, self._let_go)
        way = ways[number % len(ways)]
        name = f"{number}{way.__name__}"
        try:
            await way(name)
        except CommandLost:
            # Who took it over may have read it to the end, and let the server forget it.
            assert self._there.kills or name in self.taken
            assert self._there.runs(name) <= 1
            self.all[name] = "lost"
        except CommandTaken:
            assert name in self.taken
            self.all[name] = "taken"
        else:
            assert self._there.runs(name) == 1
            self.all[name] = "done"

    async def _print(self, name: str) -> None:
        last = self._chance.choice([10, 10_000, 400_000])
        line = self._there.line(name, f"seq {last}; exit 7")
        command = await self._bridge.popen(line, shell=True, stdin=subprocess.DEVNULL)
        self.followed[name] = command
        read = self.read[name] = bytearray()
        whole = self.whole[name] = _numbers(last)
        try:
            await self._read(command, read)
        finally:
            assert whole.startswith(read)
        assert read == whole
        assert await command.wait() == 7

    async def _echo(self, name: str) -> None:
        data = self._chance.randbytes(self._chance.choice([100, 100_000, 1_500_000]))
        command = await self._bridge.popen(self._there.line(name, "cat"), shell=True)
        writing = asyncio.ensure_future(self._write(command, data))
        read = bytearray()
        try:
            await self._read(command, read)
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            assert data.startswith(read)
        assert read == data
        assert await command.wait() == 0

    async def _count_signals(self, name: str) -> None:
        # Each number once: of two that wait, the system would make one.
        numbers = list(range(signal.SIGRTMIN + 1, signal.SIGRTMIN + 9))
        line = self._there.line(
            name, f'exec python3 -I -S -c "{_COUNTS}" {" ".join(map(str, numbers))}'
        )
        command = await self._bridge.popen(line, shell=True)
        assert command.stdin is not None
        assert command.stdout is not None
        assert await command.stdout.readline() == b"ready\n"
        for number in numbers:
            await self._there.turns(100)
            await command.send_signal(number)
        told = [int(await command.stdout.readline()) for _ in numbers]
        command.stdin.close()
        assert await command.stdout.read() == b""
        assert sorted(told) == numbers
        assert await command.wait() == 0

    async def _run(self, name: str) -> None:
        data = self._chance.randbytes(self._chance.choice([0, 3, 70_000]))
        line = self._there.line(name, "cat; echo e >&2; exit 3")
        keep = self._chance.choice([None, True])
        done = await self._bridge.run(line, shell=True, input=data, text=False, keep=keep)
        assert (done.returncode, done.stdout, done.stderr) == (3, data, b"e\n")

    async def _let_go(self, name: str) -> None:
        line = self._there.line(name, "seq 100000; read x; seq 100000")
        command = await self._bridge.popen(line, shell=True)
        assert command.stdout is not None
        read = bytearray(await command.stdout.read(self._chance.randrange(1, 500_000)))
        self.spared.add(command.id)
        again = await self._bridge.attach(await command.detach(), stdout=len(read))
        assert again.stdin is not None
        await again.stdin.write(b"on\n")
        await self._read(again, read)
        assert read == 2 * _numbers(100_000)
        assert await again.wait() == 0

    async def _read(self, command: AsyncCommand, into: bytearray) -> None:
        assert command.stdout is not None
        while piece := await command.stdout.read(self._chance.choice([10, 5000, 1 << 20])):
            into += piece
            await self._there.turns(5)

    async def _write(self, command: AsyncCommand, data: bytes) -> None:
        assert command.stdin is not None
        begin = 0
        while begin < len(data):
            end = begin + self._chance.choice([50, 30_000, 1 << 20])
            await command.stdin.write(data[begin:end])
            begin = end
            await self._there.turns(5)
        command.stdin.close()


_COUNTS = (
    "import os, signal, sys\n"
    "def tell(number, frame): os.write(1, b'%d\\n' % number)\n"
    "for number in map(int, sys.argv[1:]): signal.signal(number, tell)\n"
    "os.write(1, b'ready\\n')\n"
    "while os.read(0, 1): pass\n"
)


def _numbers(last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, last + 1))


OFFERS = 8  # at a time
WANTED = 3  # of them, by the thief


async def _steal(there: World, user: User, bridge: AsyncBridge) -> None:
    """Another client takes over what it can get, and reads it to the end."""
    while user.stolen < WANTED:
        free = [name for name in user.followed if name not in (*user.taken, *user.all)]
        if not free:
            await asyncio.sleep(0.001)
            continue
        name = there.chance.choice(free)
        user.taken.add(name)
        user.spared.add(user.followed[name].id)
        try:
            command = await bridge.attach(user.followed[name].id)
        except (CommandLost, NoSuchCommand):
            # Its user has all of it, and has let the server forget it: `do` sees to that.
            user.taken.discard(name)
            continue
        user.stolen += 1
        assert command.stdout is not None
        came = await command.stdout.read()
        assert await command.wait() == 7
        whole = user.whole[name]
        assert whole.endswith(came)
        assert len(user.read[name]) + len(came) >= len(whole)


async def _offer(user: User, number: int) -> None:
    """One print after the other: each may be over before the thief comes for it."""
    await user.do(number)
    while user.stolen < WANTED:
        number += OFFERS * 5
        await user.do(number)


@asynccontextmanager
async def _trouble(there: World, *, kills: bool = False) -> AsyncIterator[None]:
    """Until the end of the block; a server that is being restarted is up by then."""
    peace = asyncio.Event()
    making = asyncio.ensure_future(_make_trouble(there, kills, peace))
    try:
        yield
    finally:
        peace.set()
        await making


async def _make_trouble(there: World, kills: bool, peace: asyncio.Event) -> None:
    for step in itertools.count():
        if peace.is_set():
            return
        await there.turns(40)
        if kills and step % 25 == 24:
            await there.restart()
        else:
            there.cut(there.chance.choice(list(there.wires)))
        # Faults come in bursts; without a rest a link would be cut before it brings anything.
        if step % 4 == 3:
            await asyncio.sleep(0.005)


def _holds_nothing(head: Head, *, but: Collection[str] = ()) -> bool:
    """Whether nothing is left that nobody can ask for."""
    register, spool = head.register, head.spool
    if head.backlog.commands or register._syncing or register._commands.keys() - but:
        return False
    assert register._ended.keys() == register._commands.keys()
    return bool(register._commands) or spool.in_memory == spool.on_disk == 0


@pytest.mark.parametrize("seed", range(8))
def test_links_that_break_at_any_time_cost_nothing(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, seed) as (there, bridge):
            user = User(there, bridge)
            async with _trouble(there):
                await asyncio.gather(*(user.do(number) for number in range(30)))
            assert set(user.all.values()) == {"done"}
            assert bridge._session.reconnects
            await heard(bridge)
            await bridge.close()
            await wait_until_async(lambda: _holds_nothing(there.head, but=user.spared))

    run(main(), SECONDS)


@pytest.mark.parametrize("seed", range(100, 106))
def test_servers_that_are_killed_cost_only_what_ran(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, seed) as (there, bridge):
            user = User(there, bridge)
            async with _trouble(there, kills=True):
                await asyncio.gather(*(user.do(number) for number in range(30)))
            assert set(user.all.values()) <= {"done", "lost"}
            await heard(bridge)
            await bridge.close()
            await wait_until_async(lambda: _holds_nothing(there.head, but=user.spared))

    run(main(), SECONDS)


@pytest.mark.parametrize("seed", range(200, 206))
def test_what_another_client_takes_over_is_whole_there(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, seed, limit=4) as (there, bridge):
            user = User(there, bridge)
            thief = await there.client("b" * 32)
            async with _trouble(there):
                asking = (_offer(user, 5 * number) for number in range(OFFERS))
                await asyncio.gather(_steal(there, user, thief), *asking)
            for each in (bridge, thief):
                await heard(each)
                await each.close()
            await wait_until_async(lambda: _holds_nothing(there.head, but=user.spared))

    run(main(), SECONDS)


# --- one thing at a time


def _gone(there: World) -> None:
    """The link breaks, and there is no way for now."""
    there.can_be_reached = False
    there.cut("a" * 32)


def test_popen_without_a_link_starts_when_there_is_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            _gone(there)
            starting = asyncio.ensure_future(bridge.popen(there.line("c", "cat"), shell=True))
            await asyncio.sleep(0)
            assert not there.runs("c")
            there.can_be_reached = True
            command = await starting
            assert await command.communicate(b"there") == (b"there", b"")
            assert there.runs("c") == 1

    run(main())


def test_run_without_a_link_ends_in_time_and_never_runs_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.client.result.OVERDUE_SECONDS", 0.0)

    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            _gone(there)
            with pytest.raises(subprocess.TimeoutExpired):
                await bridge.run(there.line("c", "true"), shell=True, timeout=0.05)
            there.can_be_reached = True
            assert await bridge.commands() == []
            assert not there.runs("c")
            assert bridge._session._commands == {}

    run(main())


def test_run_ends_in_time_where_the_link_breaks_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.client.result.OVERDUE_SECONDS", 0.05)

    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            told: list[Message] = []

            def swallow(message: Message) -> bool:  # a half-open link: nothing comes any more
                told.append(message)
                return True

            there.wires["a" * 32].other.swallows = swallow
            running = asyncio.ensure_future(bridge.run(["sleep", "60"], timeout=0.05))
            await wait_until_async(lambda: told)  # the head has ended it, and said so
            await asyncio.sleep(0.1)
            _gone(there)
            with pytest.raises(subprocess.TimeoutExpired):
                await running

    run(main())


def test_a_run_that_is_cancelled_without_a_link_ends_on_the_head(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            running = asyncio.ensure_future(bridge.run(["sleep", "60"]))
            await wait_until_async(lambda: there.head.backlog.running)
            _gone(there)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert there.head.backlog.running == 1
            there.can_be_reached = True
            await wait_until_async(lambda: not there.head.backlog.running)

    run(main())


def test_closing_without_a_link_tells_who_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            command = await bridge.popen(["cat"])
            _gone(there)
            waiting = [asyncio.ensure_future(one) for one in (command.wait(), bridge.run(["true"]))]
            await asyncio.sleep(0)
            await bridge.close()
            for one in waiting:
                with pytest.raises(LinkLost, match="closed"):
                    await one
            with pytest.raises(LinkLost):
                await command.poll()  # who asks again and again must not do so for ever
            await command.terminate()

    run(main())


def test_shutdown_without_a_link_ends_with_patience(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, patience=0.05) as (there, bridge):
            _gone(there)
            with pytest.raises(LinkLost, match="none came back"):
                await bridge.shutdown()

    run(main())


def test_attaching_twice_in_one_session_gives_all_of_it_once_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (_, bridge):
            command = await bridge.popen(["sh", "-c", "seq 1000; read x; seq 1000"])
            assert command.stdout is not None
            assert await command.stdout.readline() == b"1\n"
            again = await bridge.attach(command.id)
            assert again.stdin is not None
            await again.stdin.write(b"on\n")
            with pytest.raises(CommandTaken):
                await command.wait()
            assert await again.communicate() == (2 * _numbers(1000), b"")

    run(main())


@pytest.mark.parametrize("size", [10, 200_000, 1 << 20])
def test_input_of_a_second_client_comes_behind_that_of_the_first(size: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            gate = tmp_path / "gate"
            os.mkfifo(gate)
            command = await bridge.popen(["sh", "-c", f"read x <{gate}; cat"])
            assert command.stdin is not None
            await command.stdin.write(b"a" * size)
            other = await there.client("b" * 32)
            again = await other.attach(command.id)
            talking = asyncio.ensure_future(again.communicate(b"b" * 100_000))
            with pytest.raises(CommandTaken):
                await command.stdin.write(b"too late" * 200_000)
            await asyncio.get_running_loop().run_in_executor(None, gate.write_text, "go\n")
            assert await talking == (b"a" * size + b"b" * 100_000, b"")
            await other.close()

    run(main())


def test_who_was_away_does_not_take_a_command_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            command = await bridge.popen(["cat"])
            _gone(there)
            there.can_be_reached = True
            there_too = await there.client("b" * 32)
            there.can_be_reached = False
            again = await there_too.attach(command.id)
            there.can_be_reached = True
            with pytest.raises(CommandTaken):
                await command.wait()
            assert await again.communicate(b"mine") == (b"mine", b"")
            await there_too.close()

    run(main())


def test_closed_output_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            command = await bridge.popen(["seq", "1000000"], keep=True)
            name = await command.detach()
            await wait_until_async(lambda: not there.head.backlog.running)
            again = await bridge.attach(name)
            assert again.stdout is not None
            again.stdout.close()
            assert await again.communicate() == (b"", b"")
            assert again.returncode == 0

    run(main())


def test_the_end_of_a_stream_is_told_behind_what_was_kept_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            line = "seq 1000000; exec >/dev/null; read x"
            name = await (await bridge.popen(line, shell=True)).detach()
            whole = _numbers(1_000_000)
            command = there.head.register.find(name)
            assert command is not None
            await wait_until_async(lambda: command.sizes[0] == len(whole))
            again = await bridge.attach(name)
            assert again.stdout is not None
            assert await again.stdout.read() == whole
            assert again.returncode is None
            await again.communicate(b"on\n")

    run(main())


def test_a_waiting_command_may_be_attached_to_and_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, limit=1) as (there, bridge):
            first = await bridge.popen(["cat"])
            starting = asyncio.ensure_future(bridge.popen(there.line("c", "cat"), shell=True))
            await wait_until_async(lambda: there.head.backlog.waiting)
            waiting = (await bridge.commands())[-1]
            assert (waiting.state, waiting.pid) == ("waiting", 0)
            other = await there.client("b" * 32)
            command = await other.attach(waiting.id)
            with pytest.raises(CommandTaken):
                await starting
            await command.terminate()
            with pytest.raises(OSError, match="canceled"):
                await command.wait()
            assert await first.communicate(b"") == (b"", b"")
            assert not there.runs("c")
            await other.close()

    run(main())


def test_what_is_attached_to_may_not_be_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (_, bridge):
            with pytest.raises(NoSuchCommand):
                await bridge.attach("0" * 32)

    run(main())


@pytest.mark.parametrize("turns", range(8))
def test_a_server_that_ends_does_not_wait_for_who_greets_it_just_now(
    turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.server.visits.HELLO_SECONDS", SECONDS)

    async def main() -> None:
        head = Head(tmp_path)
        near, far = memory_links()
        head.visits.accept(far)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        near.send(Hello(2, 2, VERSION, SESSION))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(head.visits.close(), SECONDS / 4)
        assert len(head.visits) == 0
        assert near.mailbox.fault is not None
        await head.kill(())

    run(main())


@pytest.mark.slow
def test_three_thousand_commands_leave_nothing_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as (there, bridge):
            for _ in range(30):
                await asyncio.gather(*(bridge.run(["true"]) for _ in range(100)))
            session, register = bridge._session, there.head.register
            session.beat()
            await wait_until_async(lambda: _holds_nothing(there.head))
            assert session._commands == {}
            assert session._over == []
            assert not any(visit.session._asked for visit in there.head.visits._visits.values())
            assert len(there.head.journal.records()) <= MAX_RECORDS
            assert there.head.journal._output == 0
            gc.collect()
            alive = [one for one in gc.get_objects() if isinstance(one, (Command, AsyncCommand))]
            assert alive == []
            assert register._backlog.running == 0

    run(main(), SECONDS)


# --- with the test as the server


async def _by_hand() -> tuple[Session, AsyncCommand, Link, asyncio.Queue[Link]]:
    """A command that runs, and the far ends of the links that come after the first."""
    fars: asyncio.Queue[Link] = asyncio.Queue()

    async def climb(former: Ascent) -> Ascent:
        talk, far = await talk_by_hand()
        fars.put_nowait(far)
        return Ascent(talk, "memory", (), (), started=False)

    talk, far = await talk_by_hand()
    session = Session(SESSION, Ascent(talk, "memory", (), (), started=False), climb, SECONDS)
    command = AsyncCommand(session, Start("c", ("cat",)), ["cat"])
    command.request_start()
    assert isinstance(await far.receive(), Start)
    far.send(Started("c", 17))
    await command.wait_started()
    return session, command, far, fars


def test_a_signal_between_two_links_goes_once_and_in_its_place() -> None:
    async def main() -> None:
        session, command, far, fars = await _by_hand()
        await command.send_signal(10)
        assert await far.receive() == Signal("c", 10)
        await command.send_signal(12)  # this one is lost
        far.cut(LinkLost("The cable was pulled"))
        far = await fars.get()
        assert isinstance(await far.receive(), Attach)
        await command.send_signal(1)
        far.send(Attached("c", 17, 0, 0, signals=1))
        await command.send_signal(2)
        assert [await far.receive() for _ in range(3)] == [Signal("c", n) for n in (12, 1, 2)]
        await session.close()
        assert isinstance(await far.receive(), Bye)

    run(main())


@pytest.mark.parametrize(
    "there",
    [
        Attached("c", 17, stdout=5, stderr=0),
        Attached("c", 17, stdout=0, stderr=1),
        Attached("c", 17, stdout=0, stderr=0, stdin=1),
    ],
)
def test_what_somebody_else_has_read_or_written_costs_that_command_only(there: Attached) -> None:
    async def main() -> None:
        session, command, far, fars = await _by_hand()
        far.cut(LinkLost("The cable was pulled"))
        far = await fars.get()
        assert isinstance(await far.receive(), Attach)
        far.send(there)
        with pytest.raises(CommandTaken):
            await command.wait()
        assert await far.receive() == Detach("c")
        assert session.is_linked
        await session.close()

    run(main())


def test_an_answer_that_no_command_can_give_ends_the_talk() -> None:
    async def main() -> None:
        session, command, far, _ = await _by_hand()
        far.send(StartFailed("c", 2, "after it was started"))
        with pytest.raises(PeerMisbehaved, match="start failed"):
            await command.wait()
        assert isinstance(session.fault, PeerMisbehaved)
        await session.close()

    run(main())


def test_what_the_former_follower_is_told_is_no_answer_to_attach() -> None:
    async def main() -> None:
        session, former, far, _ = await _by_hand()
        command = AsyncCommand(session, Attach("c", stdout=2), ["c"])
        command.request_start()
        with pytest.raises(CommandTaken):
            await former.wait()
        attaching = asyncio.ensure_future(command.wait_attached())
        far.send(Output("c", STDOUT, 0, payload=b"abcd"))
        far.send(Exited("c", 0, None, final=False))
        await asyncio.sleep(0)
        assert not attaching.done()
        far.send(Attached("c", 17, 2, 0, argv=("cat",)))
        await attaching
        far.send(Output("c", STDOUT, 2, payload=b"cd", eof=True))
        far.send(Exited("c", 0, None))
        assert await command.communicate() == (b"cd", b"")
        assert command.args == ["cat"]
        await session.close()

    run(main())


def test_waiting_for_a_turn_is_told() -> None:
    async def main() -> None:
        session, command, far, _ = await _by_hand()
        far.send(Queued("c", 3))
        await wait_until_async(lambda: command.ahead == 3)
        await session.close()

    run(main())
