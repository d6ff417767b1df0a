"""What goes in comes out: every byte, every status, over every rung and under rekeying."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from tests.support.figures import Figure
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer

MIB = 1024 * 1024
SECONDS = 120.0
GROWTH = 64 * MIB

SIZES = [
    pytest.param(64, id="64 MiB"),
    pytest.param(1024, id="1 GiB", marks=pytest.mark.soak),
]


@dataclass
class Way:
    """A bridge over one rung, and the process of its server."""

    bridge: Bridge
    server_pid: int


@pytest.fixture(
    params=[
        "local",
        "direct",
        pytest.param("tunnel", marks=pytest.mark.sshd),
        pytest.param("stdio", marks=pytest.mark.sshd),
    ]
)
def way(request: pytest.FixtureRequest) -> Way:
    if request.param in ("local", "direct"):
        server: LocalServer = request.getfixturevalue("local_server")
        bridge = server.init(transport=request.param)
    else:
        make_head: MakeHead = request.getfixturevalue("make_head")
        bridge = make_head().init(autostart=True, transport=request.param)
    status = bridge.status()
    assert status.transport == request.param
    return Way(bridge, status.server_pid)


def _resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class _Memory:
    """The most that server and client took beyond what they had."""

    def __init__(self, way: Way) -> None:
        self._pids = {"server": way.server_pid, "client": os.getpid()}
        self._before = {name: _resident(pid) for name, pid in self._pids.items()}
        self.grown = {"server": 0, "client": 0}

    def look(self) -> None:
        for name, pid in self._pids.items():
            self.grown[name] = max(self.grown[name], _resident(pid) - self._before[name])


# --- much input ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "command",
    [["sha256sum"], ["sh", "-c", "sleep 1; exec sha256sum"]],
    ids=["reads at once", "reads late"],
)
def test_much_input_arrives_unchanged_and_takes_no_memory(
    command: list[str], size: int, way: Way, figure: Figure
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    piece = random.Random(seed).randbytes(MIB)
    sent = hashlib.sha256()
    running = way.bridge.popen(command, text=False)
    assert running.stdin is not None
    memory = _Memory(way)
    for number in range(size):
        numbered = number.to_bytes(8, "big") + piece[8:]
        sent.update(numbered)
        running.stdin.write(numbered)
        memory.look()
    running.stdin.close()
    assert running.stdout is not None
    assert running.stdout.read().split()[0].decode() == sent.hexdigest()
    assert running.wait(SECONDS) == 0
    assert max(memory.grown.values()) < GROWTH, memory.grown
    figure(
        22,
        mib=size,
        server_grown_mib=memory.grown["server"] / MIB,
        client_grown_mib=memory.grown["client"] / MIB,
    )


def test_command_that_leaves_before_its_input_ends_breaks_the_pipe_and_keeps_its_status(
    way: Way,
) -> None:
    running = way.bridge.popen(["sh", "-c", "head -c 1000000 >/dev/null; exit 7"], text=False)
    assert running.stdin is not None
    memory = _Memory(way)
    for _ in range(1024):
        memory.look()
        try:
            running.stdin.write(bytes(MIB))
        except BrokenPipeError:
            break
    else:
        raise AssertionError("a gibibyte went to a command that had left")
    with suppress(BrokenPipeError):
        running.stdin.close()
    assert running.wait(SECONDS) == 7
    assert max(memory.grown.values()) < GROWTH, memory.grown
    assert way.bridge.run(["echo", "on"]).stdout == "on\n"


# --- every byte and every status ----------------------------------------------------------


def _same(way: Way, command: list[str], **keywords: bytes) -> None:
    here = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS, **keywords)  # type: ignore[call-overload]
    there = way.bridge.run(command, text=False, timeout=SECONDS, **keywords)  # type: ignore[arg-type]
    assert there.returncode == here.returncode, command
    assert there.stdout == here.stdout
    assert there.stderr == here.stderr


def test_every_byte_comes_back_on_both_streams(way: Way, figure: Figure) -> None:
    every = bytes(range(256)) * 1000 + b"\xff\xfe\xc3\x28\xed\xa0\x80\x00" * 1000
    _same(way, ["tee", "/dev/stderr"], input=every)
    line = b"x" * 10_000_000 + b"\n"
    _same(way, ["cat"], input=line)
    running = way.bridge.popen(["cat"], text=False)
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(line[:1_000_000] + b"\n")
    running.stdin.close()
    assert running.stdout.readline() == line[:1_000_000] + b"\n"
    assert running.wait(SECONDS) == 0
    figure(23, longest_line_bytes=len(line))


def test_every_exit_code_comes_back(way: Way, figure: Figure) -> None:
    assert [way.bridge.run(["sh", "-c", f"exit {code}"]).returncode for code in range(256)] == list(
        range(256)
    )
    figure(23, exit_codes=256)


# Stopped, or going on as if nothing had been: no end that could be told.
_NO_END = {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGWINCH"}


def test_every_deadly_signal_comes_back(way: Way, figure: Figure) -> None:
    deadly = [one for one in signal.Signals if one.name not in _NO_END]
    for one in deadly:
        reset = f"import signal, os; signal.signal({int(one)}, signal.SIG_DFL)"
        if one is signal.SIGKILL:
            reset = "import os"
        script = f"{reset}; os.kill(os.getpid(), {int(one)})"
        ended = way.bridge.run(["python3", "-I", "-S", "-c", script], timeout=SECONDS)
        assert ended.returncode == -one, f"{one.name}: {ended}"
    figure(23, signals=len(deadly))


# --- rekeying -----------------------------------------------------------------------------


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_bytes_survive_new_keys_under_load(
    transport: str, make_head: MakeHead, figure: Figure
) -> None:
    head = make_head("RekeyLimit 1M 3s", "LogLevel DEBUG1")
    bridge = head.init(autostart=True, transport=transport)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    carried = 0
    end = time.monotonic() + 5  # so that keys grow too old, too
    while time.monotonic() < end:
        sent = chance.randbytes(4 * MIB)
        came = bridge.run(["cat"], input=sent, text=False, timeout=SECONDS).stdout
        assert came == sent
        carried += 2 * len(sent)
    renewed = head.sshd.wait_for_log("rekeying out").count("rekeying out")
    assert renewed > carried / (16 * MIB), f"{renewed} key exchanges for {carried} bytes"
    figure(31, mib=carried // MIB, key_exchanges=renewed)
