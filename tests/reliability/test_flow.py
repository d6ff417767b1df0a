"""Much output that is read slowly, or by nobody, and much input: memory stays where it was.

The clients run in a process of their own, so that what they take can be told.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.client.blocking import Command
from smartsim_bridge.server.spool import QUOTA, SEGMENT, STREAM_QUOTA
from tests.support.figures import Figure
from tests.support.footprint import MIB, apart, footprint, forget_peak
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

GROWTH = 64 * MIB  # beyond what either side had before
FLOOD = ["head", "-c", "10G", "/dev/zero"]
MANY = 100  # of them at once
READ_RATE = MIB  # bytes per second of a slow reader
CANCEL_SECONDS = 30.0  # of a busy host; what is unread would take longer
CANCELS = 3
QUIET_LOOKS = 50  # without a change, half a second
SECONDS = 60.0  # for whatever should take none
GIB = 1024 * MIB


@dataclass
class Way:
    """How a client in another process gets to the server."""

    transport: str
    keywords: dict[str, Any]
    server_pid: int


@pytest.fixture
def has_shims() -> bool:
    """No: what a server holds is counted here, and a thread that has looked for them stays."""
    return False


@pytest.fixture(
    params=[
        "local",
        "direct",
        pytest.param("tunnel", marks=pytest.mark.sshd),
        pytest.param("stdio", marks=pytest.mark.sshd),
    ]
)
def way(request: pytest.FixtureRequest) -> Way:
    transport: str = request.param
    keywords: dict[str, Any] = {"timeout": 60.0, "transport": transport}
    if transport in ("tunnel", "stdio"):
        make_head: MakeHead = request.getfixturevalue("make_head")
        head = make_head()
        # The server outlives this first bridge, and is there to be measured.
        pid = head.init(autostart=True, transport=transport).status().server_pid
        return Way(transport, {**head.keywords, **keywords}, pid)
    server: LocalServer = request.getfixturevalue("local_server")
    return Way(transport, keywords, server.pid)


@contextmanager
def _bridge(keywords: dict[str, Any]) -> Iterator[Bridge]:
    """In the client's process: a bridge that has run something before anything is measured."""
    with init_command_server(**keywords) as bridge:
        assert bridge.run(["cat"], input="x" * MIB).returncode == 0
        yield bridge


class _Peaks:
    """The most that server and client take beyond what they have now."""

    def __init__(self, way: Way) -> None:
        self._pids = {"server": way.server_pid, "client": os.getpid()}
        self._before = {name: forget_peak(pid).resident for name, pid in self._pids.items()}

    @property
    def grown(self) -> dict[str, int]:
        return {name: footprint(pid).peak - self._before[name] for name, pid in self._pids.items()}


# --- floods -------------------------------------------------------------------------------


@dataclass
class Flooded:
    """What the client of a flood saw; times in seconds."""

    grown: dict[str, int] = field(default_factory=dict)
    read: int = 0
    beside: list[float] = field(default_factory=list)
    cancels: list[float] = field(default_factory=list)
    endings: list[int] = field(default_factory=list)


class _Reader(threading.Thread):
    """Takes so many bytes per second of a flood of zeros, for so long; then it stops."""

    def __init__(self, command: Command, rate: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self._command = command
        self._rate = rate
        self._seconds = seconds
        self._never = threading.Event()
        self.read = 0
        self.zeros = True

    def run(self) -> None:
        assert self._command.stdout is not None
        began = time.monotonic()
        while time.monotonic() < began + self._seconds:
            piece = self._command.stdout.read1(64 * 1024)  # type: ignore[attr-defined]
            self.zeros = self.zeros and not piece.strip(b"\0")
            self.read += len(piece)
            self._never.wait(max(0.0, began + self.read / self._rate - time.monotonic()))


def _read_slowly(way: Way, seconds: float) -> Flooded:
    """The client: a slow reader, one that never reads, and commands beside them."""
    told = Flooded()
    with _bridge(way.keywords) as bridge:
        peaks = _Peaks(way)
        for _ in range(CANCELS):
            flood = bridge.popen(FLOOD, text=False)
            unread = bridge.popen(["yes"], text=False)
            reader = _Reader(flood, READ_RATE, seconds / CANCELS)
            reader.start()
            while reader.is_alive():
                told.beside.append(_time_of(bridge))
                reader.join(0.05)
            assert reader.zeros
            assert flood.poll() is None
            told.read += reader.read
            # By now nobody reads any more, and both are full to the brim.
            for command in (flood, unread):
                began = time.monotonic()
                command.terminate()
                told.endings.append(command.wait(SECONDS))
                told.cancels.append(time.monotonic() - began)
                told.read += len(_rest(command))
        told.grown = peaks.grown
    return told


def _time_of(bridge: Bridge) -> float:
    began = time.monotonic()
    assert bridge.run(["true"]).returncode == 0
    return time.monotonic() - began


def _rest(command: Command) -> bytes:
    assert command.stdout is not None
    return bytes(command.stdout.read())


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(4.5, id="short"), pytest.param(120.0, id="long", marks=pytest.mark.soak)],
)
def test_flood_before_a_slow_reader_takes_no_memory_and_is_cancelled_at_once(
    seconds: float, way: Way, figure: Figure
) -> None:
    with apart(seconds + 2 * SECONDS) as pool:
        told = pool.submit(_read_slowly, way, seconds).result()
    assert max(told.grown.values()) < GROWTH, told.grown
    # What was on its way at the end is read fast, and no more than two windows.
    assert told.read < seconds * READ_RATE + CANCELS * 8 * MIB
    assert told.endings == [-signal.SIGTERM] * 2 * CANCELS
    assert max(told.cancels) < CANCEL_SECONDS, told.cancels
    assert len(told.beside) >= CANCELS
    figure(
        21,
        server_grown_mib=told.grown["server"] / MIB,
        client_grown_mib=told.grown["client"] / MIB,
        cancel_seconds=sorted(told.cancels)[CANCELS],
        slowest_command_beside_seconds=max(told.beside),
    )


def _read_all(way: Way, amount: int) -> tuple[int, dict[str, int]]:
    """The client: takes all of a flood as fast as it comes."""
    with _bridge(way.keywords) as bridge:
        peaks = _Peaks(way)
        flood = bridge.popen(["head", "-c", str(amount), "/dev/zero"], text=False)
        assert flood.stdout is not None
        read = 0
        while piece := flood.stdout.read1(MIB):  # type: ignore[attr-defined]
            read += len(piece)
        assert flood.wait(SECONDS) == 0
        return read, peaks.grown


@pytest.mark.parametrize(
    "amount",
    [
        pytest.param(GIB // 4, id="256 MiB"),
        pytest.param(10 * GIB, id="10 GiB", marks=pytest.mark.soak),
    ],
)
def test_flood_that_is_read_takes_no_memory(amount: int, way: Way, figure: Figure) -> None:
    with apart(20 * SECONDS) as pool:
        read, grown = pool.submit(_read_all, way, amount).result()
    assert read == amount
    assert max(grown.values()) < GROWTH, grown
    figure(
        21,
        flood_mib=amount // MIB,
        server_grown_mib=grown["server"] / MIB,
        client_grown_mib=grown["client"] / MIB,
    )


def _read_nothing(way: Way, floods: int) -> tuple[int, list[int]]:
    """The client: so many floods that it follows and does not read; what the server took."""
    with _bridge(way.keywords) as bridge:
        before = forget_peak(way.server_pid).resident
        commands = [bridge.popen(["yes"], text=False) for _ in range(floods)]
        pids = [command.pid for command in commands]
        # A process that waits for its pipe uses no time: all of them have filled their credit.
        seen: list[int] = []

        def all_wait() -> bool:
            seen.append(sum(map(_ticks, pids)))
            return seen[-QUIET_LOOKS:] == [seen[-1]] * QUIET_LOOKS

        wait_until(all_wait, SECONDS)
        grown = footprint(way.server_pid).peak - before
        assert bridge.run(["true"]).returncode == 0
        for command in commands:
            command.terminate()
        return grown, [command.wait(SECONDS) for command in commands]


def _ticks(pid: int) -> int:
    """Of the processor, that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_many_floods_before_readers_that_stopped_take_no_memory_of_the_server(
    way: Way, figure: Figure
) -> None:
    with apart(3 * SECONDS) as pool:
        grown, endings = pool.submit(_read_nothing, way, MANY).result()
    assert endings == [-signal.SIGTERM] * MANY
    assert grown < GROWTH
    figure(21, floods_at_once=MANY, server_grown_by_them_mib=grown / MIB)


def _on_disk(state_dir: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (state_dir / "spool").rglob("*.spool"))


@pytest.mark.parametrize(
    "floods",
    [pytest.param(1, id="one"), pytest.param(6, id="beyond all", marks=pytest.mark.soak)],
)
def test_floods_that_nobody_follows_are_paused_at_the_quota(
    floods: int, local_server: LocalServer, figure: Figure
) -> None:
    quota = min(QUOTA, floods * STREAM_QUOTA)
    bridge = local_server.init(transport="local")
    before = forget_peak(local_server.pid)
    ids = [bridge.popen(["yes"], text=False).detach() for _ in range(floods)]

    def paused() -> bool:
        listed = [one for one in bridge.commands() if one.id in ids]
        return len(listed) == floods and all("full" in one.note for one in listed)

    wait_until(paused, seconds=2 * SECONDS)
    disk = _on_disk(local_server.state_dir)
    assert quota * 0.9 < disk < quota + floods * SEGMENT
    grown = footprint(local_server.pid).peak - before.resident
    assert grown < GROWTH

    # Whoever comes reads it from its beginning, ends it, and the disk is free again.
    for name in ids:
        command = bridge.attach(name, text=False)
        assert command.stdout is not None
        assert command.stdout.read(3 * MIB) == b"y\n" * (3 * MIB // 2)
        command.terminate()
        while piece := command.stdout.read(MIB):
            assert piece.strip(b"y\n") == b""
        assert command.wait(SECONDS) == -signal.SIGTERM
    assert footprint(local_server.pid).peak - before.resident < GROWTH
    figure(21, detached_floods=floods, spooled_mib=disk / MIB, server_grown_mib=grown / MIB)


# --- there and back -----------------------------------------------------------------------


@dataclass
class Carried:
    """What became of a stream through `cat`."""

    sent: str
    came: str
    returncode: int
    grown: dict[str, int]
    seconds: float


def _there_and_back(way: Way, size: int, seed: int) -> Carried:
    """The client: so many MiB into `cat`, and out of it at the same time."""
    piece = random.Random(seed).randbytes(MIB)
    sent, came = hashlib.sha256(), hashlib.sha256()
    with _bridge(way.keywords) as bridge:
        peaks = _Peaks(way)
        began = time.monotonic()
        command = bridge.popen(["cat"], text=False)

        def write() -> None:
            assert command.stdin is not None
            for number in range(size):
                numbered = number.to_bytes(8, "big") + piece[8:]
                sent.update(numbered)
                command.stdin.write(numbered)
            command.stdin.close()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert command.stdout is not None
        while back := command.stdout.read1(MIB):  # type: ignore[attr-defined]
            came.update(back)
        writer.join(SECONDS)
        code = command.wait(SECONDS)
        seconds = time.monotonic() - began
        return Carried(sent.hexdigest(), came.hexdigest(), code, peaks.grown, seconds)


@pytest.mark.parametrize(
    "size",
    [pytest.param(64, id="64 MiB"), pytest.param(1024, id="1 GiB", marks=pytest.mark.soak)],
)
def test_much_goes_there_and_back_unchanged(size: int, way: Way, figure: Figure) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with apart(SECONDS + size) as pool:
        told = pool.submit(_there_and_back, way, size, seed).result()
    assert told.returncode == 0
    assert told.came == told.sent
    assert max(told.grown.values()) < GROWTH, told.grown
    figure(
        22,
        mib=size,
        server_grown_mib=told.grown["server"] / MIB,
        client_grown_mib=told.grown["client"] / MIB,
        **{f"{way.transport}_mib_per_second": size / told.seconds},
    )


def _leave_early(way: Way, taken: int, limit: int) -> tuple[int, bytes, int, dict[str, int]]:
    """The client: writes to a command that gives back so many bytes, and leaves."""
    with _bridge(way.keywords) as bridge:
        peaks = _Peaks(way)
        command = bridge.popen(["sh", "-c", f"head -c {taken}; exit 7"], text=False)
        assert command.stdin is not None
        assert command.stdout is not None
        written = 0
        try:
            while written < limit:
                written += command.stdin.write(b"x" * MIB)
        except BrokenPipeError:
            written = -1
        with suppress(BrokenPipeError):
            command.stdin.close()
        back = command.stdout.read()
        return written, back, command.wait(SECONDS), peaks.grown


def test_command_that_leaves_early_breaks_the_pipe_and_keeps_what_it_said(way: Way) -> None:
    taken = 300_000
    with apart(2 * SECONDS) as pool:
        told = pool.submit(_leave_early, way, taken, GIB).result()
    written, back, code, grown = told
    assert written == -1, "a gibibyte went to a command that had left"
    assert back == b"x" * taken
    assert code == 7
    assert max(grown.values()) < GROWTH, grown
