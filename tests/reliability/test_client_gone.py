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
from tests.reliability.ways import numbers_up_to_last, ticking_until
from tests.support.altered_server import alter_server
from tests.support.figures import Figure
from tests.support.heads import is_running
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.waiting import wait_until

SECONDS = 60.0
BROKEN_SECONDS = 3.0  # of an impatient server
# A group of two, of which the first cannot end before the second.
PAIR = ["sh", "-c", "sleep 600 & echo $!; wait"]

CLIENT = """
import json, sys
from smartsim_bridge import init_command_server
transport, words, keywords = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
with init_command_server(transport=transport, timeout=60.0) as bridge:
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


def _ending(bridge: Bridge, command: str) -> int | None:
    """Its returncode, once the server has taken note of the end."""
    wait_until(lambda: _told(bridge, command).state == "ended", SECONDS)
    return _told(bridge, command).returncode


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
    start_client: StartClient, local_server: LocalServer, tmp_path: Path, figure: Figure
) -> None:
    end = tmp_path / "end"
    client = start_client(ticking_until(end), keep=True)
    client.kill()
    bridge = local_server.init()
    wait_until(lambda: not _told(bridge, client.command).followed, SECONDS)
    unread = _told(bridge, client.command)
    assert unread.state == "running"
    wait_until(lambda: _told(bridge, client.command).stdout > unread.stdout, SECONDS)
    running = bridge.attach(client.command)
    assert running.pid == client.pid
    end.touch()
    assert running.stdout is not None
    said = running.stdout.read().split()
    assert said == numbers_up_to_last(said)
    assert running.wait(SECONDS) == 0
    wait_until(lambda: not _zombies(local_server.pid), SECONDS)
    figure(16, lines_after_a_kill=len(said), zombies=0)


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
    assert _ending(local_server.init(), client.command) == -signal.SIGTERM
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
    deaf = tmp_path / "deaf"
    script = "trap '' TERM; sleep 600 & touch \"$0\"; wait; wait"
    client = start_client(["sh", "-c", script, str(deaf)], grace=0.0)
    wait_until(deaf.exists, SECONDS)
    client.kill()
    wait_until(lambda: not _group(client.pid), SECONDS)
    assert _ending(server.init(), client.command) == -signal.SIGKILL
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
        f"commands.Gone.BROKEN._value_ = {BROKEN_SECONDS}",
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
        # One with a heartbeat stays, or is back where a busy machine held it up.
        wait_until(lambda: _followed(bridge, silent, closed) == [False, True], SECONDS)
        closed.say_goodbye()
        wait_until(lambda: not _group(closed.pid), SECONDS)
        killed = time.monotonic()
        broken.kill()
        wait_until(lambda: not _group(broken.pid), SECONDS)
        assert time.monotonic() - killed >= BROKEN_SECONDS
        assert is_running(silent.pid)
        assert _told(bridge, silent.command).state == "running"
    finally:
        silent.process.send_signal(signal.SIGCONT)
    # It is back, and follows its command again, until it says goodbye.
    wait_until(lambda: _told(bridge, silent.command).followed, SECONDS)
    silent.say_goodbye()
    wait_until(lambda: not _group(silent.pid), SECONDS)
    wait_until(lambda: not _zombies(impatient_server.pid), SECONDS)


def _followed(bridge: Bridge, *clients: Client) -> list[bool]:
    told = {one.id: one.followed for one in bridge.commands()}
    return [told[client.command] for client in clients]


# --- submissions --------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for sbatch and srun on the PATH of every server that is started from now on.

    Slow, as on a busy cluster: they are done once there is a file `answer`.
    """
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sbatch", "srun"):
        script = directory / name
        script.write_text(
            "#!/bin/sh\n"
            f'until [ -e "{tmp_path}/answer" ]; do sleep 0.1; done\n'
            f'echo "{name} $*" | tee -a "{tmp_path}/jobs"\n'
        )
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
    wait_until(lambda: not _told(bridge, submission.command).followed, SECONDS)
    scheduler.with_name("answer").touch()
    running = bridge.attach(submission.command)
    assert running.communicate(timeout=SECONDS) == ("sbatch job.sh\n", "")
    assert running.returncode == 0
    assert scheduler.read_text() == "sbatch job.sh\n"
    assert not _zombies(impatient_server.pid)
