"""What a guest on a login node must not do: crowd out, keep awake, take memory.

All of it is asked of real servers, through /proc.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.links.link import Link
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.protocol.beacon import Beacon, Credentials
from smartsim_bridge.protocol.messages import (
    DEFAULT_HEARTBEAT,
    PROTOCOL_VERSION,
    Hello,
    Ping,
    Pong,
    Welcome,
)
from smartsim_bridge.server import __main__ as command_line
from smartsim_bridge.server.__main__ import main
from smartsim_bridge.server.manners import DEFAULT_NICE, take_back_seat
from smartsim_bridge.server.options import ServerOptions
from smartsim_bridge.server.serve import BEACON_SECONDS
from tests.server.running import Fleet
from tests.server.talks import Talk
from tests.support.loops import run
from tests.support.waiting import PATIENCE, wait_until, wait_until_async

WINDOW = 12.0  # seconds: two heartbeats at least
MEGABYTE = 1024 * 1024


def status(task: Path) -> dict[str, str]:
    lines = (task / "status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def wakeups(pid: int) -> dict[str, int]:
    """How often each thread of the process went to sleep, by its id and name.

    How often it had to wait for a CPU meanwhile says what others do on this machine.
    """
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        told = status(task)
        found[f"{task.name} {told['Name']}"] = int(told["voluntary_ctxt_switches"])
    return found


def will_beat(beacon: Beacon, seconds: float) -> bool:
    """Whether the server is to touch its files within so many seconds: it may wake up for that."""
    since = time.time() - Path(beacon.socket).stat().st_mtime
    return since > BEACON_SECONDS - seconds


def fresh(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Those since `before`, of the threads that had any."""
    counts = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in counts.items() if count}


class Stillness:
    """True once the process has not woken up for a second: its start is over."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last: dict[str, int] = {}
        self._since = 0.0

    def __call__(self) -> bool:
        now, seen = time.monotonic(), wakeups(self._pid)
        if seen != self._last:
            self._last, self._since = seen, now
        return now - self._since > 1.0


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def resident(pid: int) -> int:
    """Bytes of memory that the process has."""
    return int(status(Path(f"/proc/{pid}"))["VmRSS"].split()[0]) * 1024


async def greeted(link: Link, session: str = "s1") -> Talk:
    link.send(Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "0.1", session))
    assert isinstance(await link.receive(), Welcome)
    return Talk(link)


async def by_socket(beacon: Beacon, _: Credentials | None) -> Link:
    return await connect_unix(beacon.socket)


async def by_zmq(beacon: Beacon, keys: Credentials | None) -> Link:
    assert keys is not None
    return await connect_zmq(beacon.endpoints[0], keys, timeout=PATIENCE)


# --- at rest


@pytest.fixture
def another_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """For one more server, to be watched in the same seconds."""
    servers = Fleet(tmp_path / "another")
    try:
        yield servers
    finally:
        servers.close()


@pytest.mark.slow
def test_server_without_clients_does_not_wake_up(fleet: Fleet, another_fleet: Fleet) -> None:
    """One that nobody has asked for anything, and one that has worked and comes to rest again."""
    fresh_one, _ = fleet.start()
    worked, keys = another_fleet.start()
    work_for(worked, keys)
    # The sweep for silent links runs once more after the last one has left.
    wait_until(after(DEFAULT_HEARTBEAT + 1))
    wait_until(
        lambda: not any(will_beat(one, 3 * WINDOW) for one in (fresh_one, worked)),
        3 * BEACON_SECONDS,
    )
    pids = (fresh_one.pid, worked.pid)
    for pid in pids:
        wait_until(Stillness(pid))
    before = [wakeups(pid) for pid in pids]
    assert len(before[0]) > 1, "libzmq's threads are missing: they are what this is about"
    wait_until(after(WINDOW))
    assert [fresh(then, wakeups(pid)) for then, pid in zip(before, pids)] == [{}, {}]


def work_for(beacon: Beacon, keys: Credentials | None) -> None:
    async def work() -> None:
        idle = await greeted(await by_socket(beacon, keys), "s2")
        client = await greeted(await by_zmq(beacon, keys))
        for _ in range(20):
            assert (await client.run("echo", "hello")).out == b"hello\n"
        await client.close()
        await idle.close()

    run(work())


# One for the Ping and one for the sweep, with one to spare; libzmq has a heartbeat of
# its own, each way and answered, and a thread that carries all of it.
EACH_BEAT = {by_socket: 3, by_zmq: 12}
BEATS = 3


@pytest.mark.slow
def test_idle_client_costs_its_heartbeat(fleet: Fleet, another_fleet: Fleet) -> None:
    servers = dict(zip(EACH_BEAT, (fleet.start(), another_fleet.start())))

    async def rest(connect: Any) -> tuple[dict[str, int], float]:
        """What it cost, and how many heartbeats long that was."""
        beacon, keys = servers[connect]
        client = await greeted(await connect(beacon, keys))
        await wait_until_async(after(1.0))
        before, began = wakeups(beacon.pid), time.monotonic()
        for beat in range(BEATS):
            client.link.send(Ping(beat))
            await wait_until_async(after(DEFAULT_HEARTBEAT))
        counted, took = fresh(before, wakeups(beacon.pid)), time.monotonic() - began
        await client.until(lambda: sum(isinstance(one, Pong) for one in client.all) == BEATS)
        await client.close()
        return counted, took / DEFAULT_HEARTBEAT

    async def both() -> list[tuple[dict[str, int], float]]:
        return await asyncio.gather(*map(rest, servers))

    for (counted, beats), each_beat in zip(run(both()), EACH_BEAT.values()):
        assert BEATS <= sum(counted.values()) <= beats * each_beat, counted


def test_server_at_rest_takes_less_than_forty_megabytes(fleet: Fleet) -> None:
    beacon, keys = fleet.start()
    assert resident(beacon.pid) < 40 * MEGABYTE

    async def work() -> None:
        client = await greeted(await by_zmq(beacon, keys))
        for _ in range(20):
            await client.run("true")
        await client.close()

    run(work())
    assert resident(beacon.pid) < 40 * MEGABYTE


# --- priority


def priority(pid: int) -> int:
    """The nice value of the whole process."""
    values = {
        os.getpriority(os.PRIO_PROCESS, int(task.name))
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    assert len(values) == 1, values
    return values.pop()


OWN = os.getpriority(os.PRIO_PROCESS, 0)  # the tests may themselves run with nice

NICED = """
import os, sys
from smartsim_bridge.server.manners import take_back_seat
os.nice(int(sys.argv[1]))
print(take_back_seat(int(sys.argv[2])), os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize(("more", "asked"), [(0, 0), (0, 5), (0, 19), (3, 5), (7, 5)])
def test_priority_is_lowered_and_never_raised(more: int, asked: int) -> None:
    words = [sys.executable, "-c", NICED, str(more), str(asked)]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    then = max(min(19, OWN + more), asked)
    assert [int(word) for word in said.stdout.split()] == [then, then]


def test_system_that_forbids_it_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    assert take_back_seat(19) == 0


@pytest.mark.parametrize(("options", "nice"), [((), DEFAULT_NICE), (("--nice", "11"), 11)])
def test_server_sits_back_with_all_its_threads_and_commands_with_it(
    fleet: Fleet, options: tuple[str, ...], nice: int
) -> None:
    beacon, keys = fleet.start(*options)
    assert priority(beacon.pid) == max(OWN, nice)

    async def ask() -> bytes:
        client = await greeted(await by_zmq(beacon, keys))
        told = await client.run("nice")
        await client.close()
        return bytes(told.out)

    assert int(run(ask())) == max(OWN, nice)


def test_server_in_the_foreground_sits_back_too(fleet: Fleet) -> None:
    with subprocess.Popen(
        fleet.command(), env=fleet.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert any(b"stop it with" in line for line in server.stdout)
        assert priority(server.pid) == max(OWN, DEFAULT_NICE)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


# --- what may be asked of it on the command line


@pytest.mark.parametrize(
    "options",
    [
        "--allow ./sbatch", "--allow /usr/bin/sbatch", "--allow ..", "--max-commands 0",
        "--max-commands many", "--max-clients -1", "--max-rate 0", "--max-rate nan",
        "--max-rate inf", "--max-rate -3", "--nice 20", "--nice -1", "--nice soft",
    ],
)  # fmt: skip
def test_nonsense_for_a_limit_is_refused(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", *options.split()])
    assert options.split()[0] in capsys.readouterr().err


class Asked(Exception):
    """Carries the options out of a server that is not to be started."""

    def __init__(self, options: ServerOptions) -> None:
        super().__init__(options)
        self.options = options


def asked_of_a_server(state: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> ServerOptions:
    def refuse(options: ServerOptions, *_: object) -> None:
        raise Asked(options)

    monkeypatch.setattr(command_line, "Server", refuse)
    monkeypatch.setattr(command_line, "take_back_seat", lambda nice: nice)
    with pytest.raises(Asked) as asked:
        main(["serve", "--state-dir", str(state), *words])
    return asked.value.options


def test_limits_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--allow sbatch --allow squeue --allow sbatch --audit --max-commands 7"
    more = "--max-clients 8 --max-rate 0.5 --nice 3"
    state = tmp_path / "state"
    options = asked_of_a_server(state, monkeypatch, *words.split(), *more.split())
    assert (options.allow, options.audit) == (("sbatch", "squeue"), True)
    assert (options.max_commands, options.max_clients) == (7, 8)
    assert (options.max_rate, options.nice) == (0.5, 3)


def test_without_options_everything_may_run_and_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked_of_a_server(tmp_path / "state", monkeypatch)
    assert (options.allow, options.audit) == ((), False)
    assert (options.max_commands, options.max_clients) == (2048, 512)
    assert (options.max_rate, options.nice) == (1000, DEFAULT_NICE)
