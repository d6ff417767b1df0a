"""Clients that are killed, close, or fall silent, and what becomes of what they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.client.listing import CommandInfo
from tests.support.altered_server import alter_server
from tests.support.figures import Figure
from tests.support.heads import is_running
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.waiting import wait_until

SECONDS = 60.0
LINES = 60
TICKING = f"for i in $(seq {LINES}); do echo $i; sleep 0.1; done"
# A group of two, of which the first cannot end before the second.
PAIR = ["sh", "-c", "sleep 600 & echo $!; wait"]

CLIENT = """
import json, sys
from smartsim_bridge import init_command_server
transport, words, keywords = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
with init_command_server(transport=transport, timeout=20.0) as bridge:
    running = bridge.popen(words, **keywords)
    print(running.id, running.pid, flush=True)
    sys.stdin.readline()
"""


class Client:
    """A process of its own that has started one command."""

    def __init__(self, transport: str, words: list[str], **keywords: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, transport, json.dumps(words), json.dumps(keywords)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.command, pid = self.process.stdout.readline().split()
        self.pid = int(pid)  # of the command, and of its group

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def say_goodbye(self) -> None:
        self.process.communicate("\n", timeout=SECONDS)
        assert self.process.returncode == 0


class StartClient(Protocol):
    def __call__(self, words: list[str], **keywords: object) -> Client: ...


@pytest.fixture(params=["local", "direct"])
def start_client(
    request: pytest.FixtureRequest, make_local_server: MakeLocalServer
) -> Iterator[StartClient]:
    with ExitStack() as stack:

        def start(words: list[str], **keywords: object) -> Client:
            client = Client(request.param, words, **keywords)
            stack.callback(client.kill)
            return client

        yield start


def _told(bridge: Bridge, command: str) -> CommandInfo:
    return next(one for one in bridge.commands() if one.id == command)


def _group(leader: int) -> list[int]:
    """Every process of the group, dead ones that nobody has asked for included."""
    return [pid for pid, _, _, group in _processes() if group == leader]


def _zombies(parent: int) -> list[int]:
    return [pid for pid, state, of, _ in _processes() if of == parent and state == "Z"]


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """Pid, state, parent and group of each."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text("ascii", "replace")
        except OSError:
            continue
        state, parent, group = stat.rpartition(")")[2].split()[:3]
        yield int(entry.name), state, int(parent), int(group)


@pytest.mark.slow
def test_all_of_a_kept_command_is_there_for_another_client_after_a_kill(
    start_client: StartClient, local_server: LocalServer, figure: Figure
) -> None:
    client = start_client(["sh", "-c", TICKING], keep=True)
    client.kill()
    bridge = local_server.init()
    wait_until(lambda: not _told(bridge, client.command).followed, SECONDS)
    assert _told(bridge, client.command).state == "running"
    running = bridge.attach(client.command)
    assert running.pid == client.pid
    assert running.stdout is not None
    assert running.stdout.read().split() == [str(number) for number in range(1, LINES + 1)]
    assert running.wait(SECONDS) == 0
    wait_until(lambda: not _zombies(local_server.pid), SECONDS)
    figure(16, lines_after_a_kill=LINES, zombies=0)


@pytest.mark.slow
def test_whole_group_of_what_is_not_kept_ends_after_its_grace(
    start_client: StartClient, local_server: LocalServer, figure: Figure
) -> None:
    client = start_client(PAIR, grace=1.0)
    wait_until(lambda: len(_group(client.pid)) == 2, SECONDS)
    client.kill()
    began = time.monotonic()
    wait_until(lambda: not _group(client.pid), SECONDS)
    ended = time.monotonic() - began
    told = _told(local_server.init(), client.command)
    assert (told.state, told.returncode) == ("ended", -signal.SIGTERM)
    assert not _zombies(local_server.pid)
    figure(16, ended_after_grace_of_one_seconds=ended)


@pytest.mark.slow
def test_what_ignores_the_first_signal_is_killed(
    start_client: StartClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_local_server: MakeLocalServer,
) -> None:
    alter_server(
        monkeypatch,
        tmp_path,
        "from smartsim_bridge.server import commands",
        "commands.KILL_AFTER = 1.0",
    )
    server = make_local_server()
    client = start_client(["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"], grace=0.0)
    client.kill()
    wait_until(lambda: not _group(client.pid), SECONDS)
    assert _told(server.init(), client.command).returncode == -signal.SIGKILL
    assert not _zombies(server.pid)


@pytest.fixture
def impatient_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_local_server: MakeLocalServer
) -> LocalServer:
    """One whose graces and heartbeats a test can wait for."""
    alter_server(
        monkeypatch,
        tmp_path,
        "from smartsim_bridge.protocol import messages",
        "from smartsim_bridge.server import commands, visits",
        "commands.Gone.CLOSED._value_ = 0.5",
        "commands.Gone.BROKEN._value_ = 5.0",
        "commands.Gone.SILENT._value_ = 600.0",
        "visits.DEFAULT_HEARTBEAT = 0.5",
        "_, *others = messages.Welcome.__init__.__defaults__",
        "messages.Welcome.__init__.__defaults__ = (0.5, *others)",
    )
    return make_local_server()


@pytest.mark.slow
def test_how_long_a_command_goes_on_depends_on_how_its_client_went(
    impatient_server: LocalServer, start_client: StartClient
) -> None:
    bridge = impatient_server.init()
    closed, broken, silent = (start_client(PAIR) for _ in range(3))
    silent.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not _told(bridge, silent.command).followed, SECONDS)
        assert _told(bridge, closed.command).followed  # one with a heartbeat stays
        broken.kill()
        closed.say_goodbye()
        wait_until(lambda: not _group(closed.pid), SECONDS)
        assert is_running(broken.pid)
        wait_until(lambda: not _group(broken.pid), SECONDS)
        assert is_running(silent.pid)
        assert _told(bridge, silent.command).state == "running"
    finally:
        silent.process.send_signal(signal.SIGCONT)
    # It is back, and follows its command again, until it says goodbye.
    wait_until(lambda: _told(bridge, silent.command).followed, SECONDS)
    silent.say_goodbye()
    wait_until(lambda: not _group(silent.pid), SECONDS)
    wait_until(lambda: not _zombies(impatient_server.pid), SECONDS)


# --- submissions --------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for sbatch and srun on the PATH of every server that is started from now on."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sbatch", "srun"):
        script = directory / name
        # Slow, as on a busy cluster: whoever asked may be gone before it has its answer.
        script.write_text(f'#!/bin/sh\nsleep 3\necho "{name} $*" | tee -a "{tmp_path}/jobs"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "jobs"


@pytest.mark.slow
def test_submission_is_finished_for_a_client_that_was_killed_and_a_step_is_not(
    scheduler: Path, impatient_server: LocalServer, start_client: StartClient
) -> None:
    submission, step = start_client(["sbatch", "job.sh"]), start_client(["srun", "hostname"])
    bridge = impatient_server.init()
    assert [_told(bridge, one.command).keep for one in (submission, step)] == [True, False]
    submission.kill()
    step.say_goodbye()
    wait_until(lambda: not _group(step.pid), SECONDS)
    running = bridge.attach(submission.command)
    assert running.communicate(timeout=SECONDS) == ("sbatch job.sh\n", "")
    assert running.returncode == 0
    assert scheduler.read_text() == "sbatch job.sh\n"
    assert not _zombies(impatient_server.pid)
