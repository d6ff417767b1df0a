"""A server is ended, or replaced by another one, and nobody's commands are lost unsaid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import __version__
from tests.support.command_line import typed
from tests.support.far_halves import write_far_half
from tests.support.heads import Head, MakeHead, is_running, stop_servers
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

# A client of another time: one that our server does not understand, and one that it does.
OTHER_PROTOCOL = """
from smartsim_bridge.client import talk
talk.OLDEST_PROTOCOL = talk.PROTOCOL_VERSION = 9
"""
OTHER_VERSION = "import smartsim_bridge; smartsim_bridge.__version__ = '9.9.9'"


@pytest.fixture
def started(near_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The pid of a server that was started from here; all of its kind end with the test."""
    state_dir = near_home / "state"
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state_dir))
    try:
        assert typed("start").returncode == 0
        yield running_pid()
    finally:
        stop_servers(state_dir)


def running_pid(*where: str) -> int:
    return int(json.loads(typed("status", *where, "--json").stdout)["server_pid"])


def sleeping(*options: str) -> int:
    """The pid of a command that was left running."""
    done = typed("run", "--detach", *options, "--", "sleep", "600")
    (found,) = (one for one in listed() if one["id"] == done.stdout.decode().strip())
    return int(found["pid"])


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(typed("ps", "--json").stdout)
    return found


# --- stop


def test_stop_counts_what_ends_with_it(local_server: LocalServer) -> None:
    bridge = local_server.init()
    bridge.run(["true"])
    commands = [bridge.popen(["sleep", "600"]) for _ in range(2)]
    done = typed("stop")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"stopped; 2 commands ended with it" in done.stdout
    assert not any(is_running(command.pid) for command in commands)
    assert local_server.process.wait(60) == 0


def test_stop_names_what_would_have_gone_on(local_server: LocalServer) -> None:
    pid = sleeping()
    done = typed("stop")
    assert b"1 command that would have gone on without a client:\n" in done.stderr
    assert b"sleep 600" in done.stderr
    assert str(pid).encode() in done.stderr
    assert b"1 command ended with it" in done.stdout
    wait_until(lambda: not is_running(pid))


def test_stop_ends_a_server_of_another_protocol(local_server: LocalServer) -> None:
    pid = sleeping()
    done = typed("stop", after=OTHER_PROTOCOL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"server of version {__version__} stopped".encode() in done.stdout
    assert local_server.process.wait(60) == 0
    assert not is_running(pid)
    assert b"nothing to stop" in typed("stop", after=OTHER_PROTOCOL).stderr


# --- start --replace


def test_replace_starts_one_where_none_runs(near_home: Path) -> None:
    state_dir = near_home / "state"
    environment = {**os.environ, "SMARTSIM_BRIDGE_STATE_DIR": str(state_dir)}
    try:
        done = typed("start", "--replace", env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b" started on " in done.stdout
    finally:
        stop_servers(state_dir)


def test_replace_leaves_one_of_the_same_version(started: int) -> None:
    done = typed("start", "--replace")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"already runs on {os.uname().nodename}, pid {started}".encode() in done.stdout
    assert running_pid() == started


def test_replace_keeps_what_runs_on_an_older_one(
    near_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir = near_home / "state"
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state_dir))
    older = write_far_half(tmp_path / "far" / "older.pyz", "0.0.9")
    try:
        subprocess.run(
            [sys.executable, str(older), "serve", "--detach", "--nonce", "n"],
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )
        before, pid = running_pid(), sleeping()
        done = typed("start", "--replace")
        assert done.returncode == 0, done.stderr
        assert f"pid {before}, is {__version__} now".encode() in done.stderr
        assert b" already runs on " in done.stdout
        assert running_pid() == before
        assert is_running(pid)
        (listed_now,) = (one for one in listed() if one["pid"] == pid)
        assert listed_now["state"] == "running"
    finally:
        stop_servers(state_dir)


def test_replace_ends_an_idle_one_that_cannot_give_way(started: int) -> None:
    done = typed("start", "--replace", after=OTHER_VERSION)
    assert done.returncode == 0
    assert f"pid {started}, stopped".encode() in done.stderr
    assert b" started on " in done.stdout
    assert not is_running(started)
    assert is_running(running_pid())


def test_replace_refuses_where_commands_run_that_cannot_be_kept(started: int) -> None:
    pid = sleeping()
    done = typed("start", "--replace", after=OTHER_VERSION)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"1 command would end with the server" in done.stderr
    assert b"sleep 600" in done.stderr
    assert b"--force" in done.stderr
    assert is_running(pid)
    assert running_pid() == started


def test_replace_by_force_ends_what_runs(started: int) -> None:
    pid = sleeping()
    done = typed("start", "--replace", "--force", after=OTHER_VERSION)
    assert done.returncode == 0
    assert b"sleep 600" in done.stderr
    assert b" started on " in done.stdout
    assert not is_running(pid)
    assert not is_running(started)


def test_what_ended_is_no_reason_to_refuse(started: int) -> None:
    assert typed("run", "--", "true").returncode == 0
    assert typed("start", "--replace", after=OTHER_VERSION).returncode == 0
    assert running_pid() != started


def test_replace_of_another_protocol_needs_force(started: int) -> None:
    done = typed("start", "--replace", after=OTHER_PROTOCOL)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"--force" in done.stderr
    assert is_running(started)
    # The new one speaks what the old one spoke, so that this client cannot greet it either.
    forced = typed("start", "--replace", "--force", after=OTHER_PROTOCOL)
    assert b"stopped, its commands with it" in forced.stdout
    assert not is_running(started)
    assert is_running(running_pid())


# --- over SSH


@pytest.mark.sshd
@pytest.mark.parametrize("zmq", [True, False], ids=["tunnel", "stdio"])
def test_the_same_over_ssh(zmq: bool, make_head: MakeHead) -> None:
    head: Head = make_head(zmq=zmq)
    where = ["--addr", "head", "--ssh-config", str(head.sshd.ssh_config), "--python", head.python]
    assert typed("start", *where).returncode == 0
    (first,) = head.server_pids()
    assert typed("run", *where, "--detach", "--", "sleep", "600").returncode == 0
    assert typed("start", *where, "--replace", after=OTHER_VERSION).returncode == 1
    assert head.server_pids() == [first]
    done = typed("start", *where, "--replace", "--force", after=OTHER_VERSION)
    assert done.returncode == 0, done.stderr
    (second,) = head.server_pids()
    assert second != first
    done = typed("stop", *where, after=OTHER_PROTOCOL)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not is_running(second))
    assert head.server_pids() == []
