"""A thousand commands, a hundred clients: each gets its answer, and what they took is given back.

The clients run in processes of their own, so that what they take can be told.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.client.bridge import AsyncBridge
from tests.support.figures import Figure
from tests.support.footprint import apart, footprint
from tests.support.heads import Head, MakeHead
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.slow

COMMANDS = 1000
CLIENTS, PROCESSES, COMMANDS_EACH = 100, 4, 10
BACK_SECONDS = 60.0  # until all is given back
TIMES = 5  # that a link is made and lost
QUIET_LOOKS = 100  # without a change, a second
SECONDS = 120.0  # for all of it, on a busy host
SSH_SESSIONS = 2  # of a site that is stingy: MaxSessions, and what one connection may use


@dataclass
class Way:
    """How clients in other processes get to the server."""

    keywords: dict[str, Any]
    server_pid: int
    head: Head | None = None


@pytest.fixture
def has_shims() -> bool:
    """No: what a server holds is counted here, and a thread that has looked for them stays."""
    return False


@pytest.fixture(params=["local", "direct", pytest.param("tunnel", marks=pytest.mark.sshd)])
def way(request: pytest.FixtureRequest) -> Way:
    transport: str = request.param
    keywords: dict[str, Any] = {"timeout": 60.0, "transport": transport}
    if transport != "tunnel":
        server: LocalServer = request.getfixturevalue("local_server")
        return Way(keywords, server.pid)
    make_head: MakeHead = request.getfixturevalue("make_head")
    # Who may log in at the same moment is no business of ours.
    head = make_head(f"MaxSessions {SSH_SESSIONS}", f"MaxStartups {2 * CLIENTS}")
    first = head.init(autostart=True, transport=transport)
    pid = first.status().server_pid
    first.close()  # the server stays
    return Way({**head.keywords, **keywords}, pid, head)


# --- a thousand commands of one client ----------------------------------------------------


@dataclass
class Answered:
    """What the client saw."""

    codes: list[int]
    seconds: list[float]  # from the word that ends a command to its end, sorted
    most_running: int


def _hold_many(keywords: dict[str, Any], server_pid: int) -> Answered:
    """The client: commands that all run at the same moment, each with a code of its own."""
    return asyncio.run(_hold(keywords, server_pid))


async def _hold(keywords: dict[str, Any], server_pid: int) -> Answered:
    loop = asyncio.get_running_loop()
    go = asyncio.Event()

    async def one(number: int) -> tuple[int, float]:
        held = f"read -r line; echo $line; exit {number % 256}"
        command = await bridge.popen(["sh", "-c", held])
        await go.wait()
        said = loop.time()
        out, _ = await command.communicate(b"%d\n" % number)
        assert out == b"%d\n" % number
        assert command.returncode is not None
        return command.returncode, loop.time() - said

    async with await AsyncBridge.connect(**keywords) as bridge:
        assert (await bridge.run(["true"])).returncode == 0
        before = {pid: footprint(pid).handles for pid in (server_pid, os.getpid())}
        all_of_them = asyncio.gather(*(one(number) for number in range(COMMANDS)))
        status = await bridge.status()
        while status.running + status.waiting < COMMANDS and not all_of_them.done():
            status = await bridge.status()
        go.set()
        answers = await asyncio.wait_for(all_of_them, SECONDS)
        await wait_until_async(lambda: _is_back(before), BACK_SECONDS)
    codes, seconds = zip(*answers)
    return Answered(list(codes), sorted(seconds), status.running)


def _is_back(before: dict[int, tuple[int, int]]) -> bool:
    """Whether each process has no more descriptors, and no more threads, than before."""
    now = {pid: footprint(pid).handles for pid in before}
    return all(now[pid][0] <= had[0] and now[pid][1] <= had[1] for pid, had in before.items())


def test_thousand_commands_at_the_same_moment_each_get_their_own_answer(
    way: Way, figure: Figure
) -> None:
    before = {way.server_pid: footprint(way.server_pid).handles}
    sessions = _ssh_sessions(way)
    with apart(2 * SECONDS) as pool:
        told = pool.submit(_hold_many, way.keywords, way.server_pid).result()
    assert told.codes == [number % 256 for number in range(COMMANDS)]
    assert told.most_running == COMMANDS
    wait_until(lambda: _is_back(before), BACK_SECONDS)
    used = _ssh_sessions(way) - sessions
    assert used <= SSH_SESSIONS
    figure(
        20,
        commands_at_once=COMMANDS,
        ssh_sessions=used,
        p50_answer_seconds=told.seconds[COMMANDS // 2],
        p99_answer_seconds=told.seconds[COMMANDS * 99 // 100],
    )


def _ssh_sessions(way: Way) -> int:
    return way.head.sshd.log.count("Starting session") if way.head is not None else 0


def _ask_from_threads(keywords: dict[str, Any], server_pid: int) -> list[int]:
    """The client: as many threads as commands, which all wait in the blocking face."""
    with init_command_server(**keywords) as bridge:
        before = {pid: footprint(pid).handles for pid in (server_pid, os.getpid())}
        with ThreadPoolExecutor(COMMANDS) as threads:
            codes = list(threads.map(lambda number: _code(bridge, number), range(COMMANDS)))
        wait_until(lambda: _is_back(before), BACK_SECONDS)
    return codes


def _code(bridge: Bridge, number: int) -> int:
    return bridge.run(["sh", "-c", f"exit {number % 256}"], timeout=SECONDS).returncode


def test_thousand_threads_each_get_their_own_answer(way: Way) -> None:
    before = {way.server_pid: footprint(way.server_pid).handles}
    with apart(2 * SECONDS) as pool:
        codes = pool.submit(_ask_from_threads, way.keywords, way.server_pid).result()
    assert codes == [number % 256 for number in range(COMMANDS)]
    wait_until(lambda: _is_back(before), BACK_SECONDS)


# --- a hundred clients --------------------------------------------------------------------


def _be_many_clients(keywords: dict[str, Any], numbers: range, gate: Path) -> None:
    """So many clients in one process, who begin when the gate is there."""
    asyncio.run(_many_clients(keywords, numbers, gate))


async def _many_clients(keywords: dict[str, Any], numbers: range, gate: Path) -> None:
    bridges = await asyncio.gather(*(AsyncBridge.connect(**keywords) for _ in numbers))
    await wait_until_async(gate.exists, SECONDS)
    await asyncio.gather(*map(_use, bridges, numbers))
    await asyncio.gather(*(bridge.close() for bridge in bridges))


async def _use(bridge: AsyncBridge, number: int) -> None:
    for turn in range(COMMANDS_EACH):
        code = (number + turn) % 256
        ended = await bridge.run(["sh", "-c", f"echo {number} {turn}; exit {code}"])
        assert (ended.returncode, ended.stdout) == (code, f"{number} {turn}\n")


def test_hundred_clients_at_once_each_get_their_own_answers(
    way: Way, tmp_path: Path, figure: Figure
) -> None:
    gate = tmp_path / "gate"
    with ExitStack() as stack:
        bridge = stack.enter_context(init_command_server(**way.keywords))
        assert bridge.run(["true"]).returncode == 0
        before = {way.server_pid: footprint(way.server_pid).handles}
        pools = [stack.enter_context(apart(2 * SECONDS)) for _ in range(PROCESSES)]
        working = [
            pool.submit(_be_many_clients, way.keywords, range(first, CLIENTS, PROCESSES), gate)
            for first, pool in enumerate(pools)
        ]
        wait_until(lambda: bridge.status().clients == CLIENTS + 1, SECONDS)
        gate.touch()
        for one in working:
            one.result()
        wait_until(lambda: _is_back(before), BACK_SECONDS)
    figure(20, clients_at_once=CLIENTS)


# --- links that come and go ---------------------------------------------------------------


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_logins_and_lost_links_leave_nothing_behind(
    transport: str, make_head: MakeHead, figure: Figure
) -> None:
    head = make_head()
    keywords = {**head.keywords, "transport": transport}
    pids = [head.init(autostart=True, transport=transport).status().server_pid, os.getpid()]
    head.bridges.pop().close()
    _settle(pids)
    before = {pid: footprint(pid).handles for pid in pids}
    for _ in range(TIMES):
        with init_command_server(**keywords) as bridge:
            assert bridge.run(["true"]).returncode == 0
    wait_until(lambda: _is_back(before), BACK_SECONDS)

    with init_command_server(**keywords) as bridge:
        assert bridge.run(["true"]).returncode == 0
        linked = {pid: footprint(pid).handles for pid in pids}
        for lost in range(1, TIMES + 1):
            head.sshd.kill_sessions()
            wait_until(lambda lost=lost: bridge.status().reconnects >= lost, SECONDS)  # type: ignore[misc]
            assert bridge.run(["true"]).returncode == 0
        wait_until(lambda: _is_back(linked), BACK_SECONDS)
    wait_until(lambda: _is_back(before), BACK_SECONDS)
    figure(20, logins=TIMES, lost_links=TIMES)


def _settle(pids: list[int]) -> None:
    """Until the last link is quite gone: its threads end by themselves."""
    seen: list[list[tuple[int, int]]] = []

    def is_quiet() -> bool:
        seen.append([footprint(pid).handles for pid in pids])
        return seen[-QUIET_LOOKS:] == [seen[-1]] * QUIET_LOOKS

    wait_until(is_quiet, BACK_SECONDS)
