"""Long use over a link that keeps breaking: nothing lost, nothing done twice, nothing that grows.

SOAK_SECONDS=3600 pytest tests/reliability/test_soak.py --soak      default: twenty minutes
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from smartsim_bridge.client.bridge import AsyncBridge
from smartsim_bridge.errors import CommandServerError
from tests.support.figures import Figure
from tests.support.flaky_proxy import TO_CLIENT, TO_SERVER, FlakyProxy, proxied_state
from tests.support.footprint import MIB, Footprint, apart, footprint
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.slow

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))

RATE = 100  # commands per second
MOST_AT_ONCE = 100  # while there is no link they pile up; what so many take is no growth
SETTLED_SECONDS = 300.0  # before the server remembers all it ever will, growth says little
EXTRA_SECONDS = 120.0  # for a busy host that does not keep the pace
BACK_SECONDS = 60.0  # until everything that was taken is given back
LOOK_SECONDS = 1.0
ZMQ_DESCRIPTORS, ZMQ_THREADS = 6, 2  # of its context, which stays with the process

# Of the last quarter above the third one.  A short run still sees the server learn; in a long
# one an allocator moves by some hundred KiB, and what leaks 50 bytes per command by more.
SHORT_GROWTH, LONG_GROWTH = 4 * MIB, MIB


@dataclass
class Told:
    """What the client saw."""

    wrong: list[str] = field(default_factory=list)
    reconnects: int = 0
    slowest_seconds: float = 0.0
    lasted_seconds: float = 0.0


def _commands(count: int, path: str) -> Told:
    """The client: `count` commands at the rate, each of which writes its number to the file."""
    before = footprint(os.getpid())
    told = asyncio.run(_run_commands(count, path))
    wait_until(lambda: _is_back(before), BACK_SECONDS)
    return told


def _is_back(before: Footprint) -> bool:
    now = footprint(os.getpid())
    return (
        now.descriptors <= before.descriptors + ZMQ_DESCRIPTORS
        and now.threads <= before.threads + ZMQ_THREADS
    )


async def _run_commands(count: int, path: str) -> Told:
    told = Told()
    loop = asyncio.get_running_loop()
    free = asyncio.Semaphore(MOST_AT_ONCE)
    bridge = await AsyncBridge.connect(transport="direct", timeout=60.0)
    pids = ((await bridge.status()).server_pid, os.getpid())
    linked = {pid: footprint(pid).handles for pid in pids}
    began = loop.time()

    async def one(number: int) -> None:
        asked = loop.time()
        try:
            ended = await bridge.run(["sh", "-c", f"echo {number} >>{path}; echo {number}"])
            if (ended.returncode, ended.stdout) != (0, f"{number}\n"):
                told.wrong.append(repr(ended))
        except (OSError, CommandServerError) as fault:
            told.wrong.append(f"{number}: {fault!r}")
        finally:
            free.release()
        told.slowest_seconds = max(told.slowest_seconds, loop.time() - asked)

    under_way = set()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))
        await free.acquire()
        task = loop.create_task(one(number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    told.lasted_seconds = loop.time() - began
    told.reconnects = (await bridge.status()).reconnects
    # While commands are under way descriptors come and go with them; now there are none.
    await wait_until_async(
        lambda: all(_has_no_more(pid, handles) for pid, handles in linked.items()), BACK_SECONDS
    )
    await bridge.close()
    return told


def _has_no_more(pid: int, handles: tuple[int, int]) -> bool:
    return all(now <= before for now, before in zip(footprint(pid).handles, handles))


class _Looks:
    """One process, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: list[Footprint] = []

    def look(self) -> None:
        self._seen.append(footprint(self._pid))

    @property
    def growth(self) -> float:
        """Bytes by which the last quarter is above the third one."""
        quarter = len(self._seen) // 4
        third, last = self._seen[-2 * quarter : -quarter], self._seen[-quarter:]
        return _median(last) - _median(third)

    def __repr__(self) -> str:
        return f"{self._seen[0]} to {self._seen[-1]}, lately by {self.growth:.0f} bytes"


def _median(seen: list[Footprint]) -> float:
    return statistics.median(one.resident for one in seen)


def _cut_until_done(
    client: Future[Told], proxy: FlakyProxy, every: float, looks: list[_Looks]
) -> None:
    """Cuts the link at random places until the client has ended."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    next_cut = time.monotonic() + every
    while not wait([client], timeout=LOOK_SECONDS).done:
        for one in looks:
            one.look()
        if time.monotonic() >= next_cut and proxy.open_connections:
            next_cut += every
            if chance.random() < 0.5:
                proxy.cut()
            else:
                proxy.cut_after(chance.randint(1, 10_000), chance.choice([TO_CLIENT, TO_SERVER]))


@pytest.fixture
def has_shims() -> bool:
    """No: what a server holds is counted here, and a thread that has looked for them stays."""
    return False


@pytest.mark.parametrize(
    ("seconds", "cut_every"),
    [
        pytest.param(20.0, 2.0, id="short"),
        pytest.param(SOAK_SECONDS, 30.0, id="long", marks=pytest.mark.soak),
    ],
)
def test_long_use_over_a_link_that_breaks_loses_nothing_and_grows_nowhere(
    seconds: float,
    cut_every: float,
    local_server: LocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    numbers = tmp_path / "numbers"
    count = int(RATE * seconds)
    before = footprint(local_server.pid)
    with ExitStack() as stack:
        proxy = stack.enter_context(FlakyProxy(("127.0.0.1", local_server.port)))
        pool = stack.enter_context(apart(2 * seconds + EXTRA_SECONDS))
        state = proxied_state(local_server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        pid = pool.submit(os.getpid).result()
        server, client = _Looks(local_server.pid), _Looks(pid)
        working = pool.submit(_commands, count, str(numbers))
        # What it takes to begin is no growth.
        wait_until(lambda: numbers.exists() or working.done())
        _cut_until_done(working, proxy, cut_every, [server, client])
        told = working.result()
        cuts = proxy.cuts
        wait_until(
            lambda: footprint(local_server.pid).handles <= before.handles, seconds=BACK_SECONDS
        )
    assert told.wrong == []
    ran = Counter(map(int, numbers.read_text("ascii").split()))
    assert not set(range(count)) - ran.keys(), "lost"
    assert [number for number, times in ran.items() if times > 1] == [], "doubled"
    assert cuts >= seconds // (2 * cut_every)
    assert told.reconnects >= cuts / 2
    print(f"{told}\nserver: {server}\nclient: {client}")
    most = LONG_GROWTH if seconds >= SETTLED_SECONDS else SHORT_GROWTH
    assert server.growth < most
    assert client.growth < most
    figure(
        32,
        commands=count,
        cuts=cuts,
        reconnects=told.reconnects,
        commands_per_second=count / told.lasted_seconds,
        slowest_seconds=told.slowest_seconds,
    )
    if seconds >= SETTLED_SECONDS:
        figure(
            32,
            server_grown_mib_in_the_last_quarter=server.growth / MIB,
            client_grown_mib_in_the_last_quarter=client.growth / MIB,
        )
