"""The main job: the first init starts one server on the head, everybody else finds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smartsim_bridge import shutdown_command_server
from smartsim_bridge.errors import BridgeClosed, LinkLost, NoServer
from smartsim_bridge.stages import Stage
from tests.support.heads import MakeHead, is_running
from tests.support.python39 import Python39
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd

RACERS = 20

# Connects, says who answered, and keeps the bridge until its stdin ends.
CLIENT = """
import json, sys
from smartsim_bridge import init_command_server
bridge = init_command_server(**json.loads(sys.argv[1]))
status = bridge.status()
print(json.dumps([status.server_pid, status.transport, status.started]), flush=True)
sys.stdin.read()
"""


def test_the_first_init_starts_one_server_and_goes_through_the_tunnel(make_head: MakeHead) -> None:
    head = make_head()
    bridge = head.init(autostart=True)

    status = bridge.status()
    assert (status.transport, status.started, status.connected) == ("tunnel", True, True)
    assert head.server_pids() == [status.server_pid]
    assert status.server_zmq
    assert [rung.name for rung in status.rungs if rung.held] == ["tunnel"]
    assert [stage.name for stage in status.stages if stage.name != "resolve"] != []
    assert bridge.run(["id", "-un"]).stdout.strip() == head.sshd.user.name


def test_a_second_client_finds_the_same_server(make_head: MakeHead) -> None:
    head = make_head()
    first = head.init(autostart=True).status()
    second = head.init(autostart=True).status()
    third = head.init().status()

    assert second.server_pid == third.server_pid == first.server_pid
    assert (first.started, second.started, third.started) == (True, False, False)
    assert third.transport == "tunnel"
    assert third.clients == 3


def test_two_clients_at_the_same_moment_find_the_same_server(make_head: MakeHead) -> None:
    head = make_head()
    with ThreadPoolExecutor(2) as pool:
        bridges = list(pool.map(lambda _: head.init(autostart=True), range(2)))

    statuses = [bridge.status() for bridge in bridges]
    assert len({status.server_pid for status in statuses}) == 1
    assert sorted(status.started for status in statuses) == [False, True]
    assert head.server_pids() == [statuses[0].server_pid]


@pytest.mark.slow
def test_twenty_racing_clients_find_one_server(make_head: MakeHead) -> None:
    head = make_head()
    arguments = json.dumps({**head.keywords, "autostart": True, "timeout": 90})
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(RACERS)
    ]
    try:
        lines = [racer.stdout.readline() for racer in racers if racer.stdout]
        alive = head.server_pids()
    finally:
        said = [racer.communicate(timeout=60)[1] for racer in racers]
    assert all(lines), said
    answers: list[list[Any]] = [json.loads(line) for line in lines]
    assert {pid for pid, _, _ in answers} == set(alive)
    assert len(alive) == 1
    assert {transport for _, transport, _ in answers} == {"tunnel"}


def test_after_sigkill_the_next_init_starts_one_server(make_head: MakeHead) -> None:
    head = make_head()
    bridge = head.init(autostart=True, reconnect=0)
    killed = bridge.status().server_pid
    command = bridge.popen(["sleep", "60"])
    os.kill(killed, signal.SIGKILL)

    with pytest.raises(LinkLost) as caught:
        command.wait(60)
    assert "host" in str(caught.value)
    again = head.init(autostart=True).status()
    assert again.started
    assert head.server_pids() == [again.server_pid] != [killed]


def test_after_sigkill_a_bridge_that_may_start_one_goes_on_with_a_new_one(
    make_head: MakeHead,
) -> None:
    head = make_head()
    bridge = head.init(autostart=True)
    killed = bridge.status().server_pid
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: bridge.status().reconnects)

    status = bridge.status()
    assert status.connected
    assert head.server_pids() == [status.server_pid] != [killed]
    assert bridge.run(["echo", "here"]).stdout == "here\n"
    assert head.sshd.log.count("Accepted publickey") == 1, "the login was not used again"


def test_a_beacon_of_a_killed_server_is_no_server(make_head: MakeHead) -> None:
    head = make_head()
    with head.init(autostart=True) as bridge:
        killed = bridge.status().server_pid
    # Closed: it would start another one as soon as it noticed.
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_running(killed))

    with pytest.raises(NoServer) as caught:
        head.init()
    assert "autostart=True" in str(caught.value)
    assert head.server_pids() == []


def test_without_autostart_nothing_is_started_and_nothing_left(make_head: MakeHead) -> None:
    head = make_head()
    with pytest.raises(NoServer) as caught:
        head.init()
    assert caught.value.host == "head"
    assert caught.value.step
    assert head.server_pids() == []
    assert list(head.sshd.home.iterdir()) == []


def test_the_server_outlives_the_bridge_that_started_it(make_head: MakeHead) -> None:
    head = make_head()
    first = head.init(autostart=True)
    pid = first.status().server_pid
    first.close()
    wait_until(lambda: head.sshd.session_pids() == [])

    assert head.init().status().server_pid == pid


def test_shutdown_ends_the_server_and_the_bridge(make_head: MakeHead) -> None:
    head = make_head()
    bridge = head.init(autostart=True)
    pid = bridge.status().server_pid
    shutdown_command_server(bridge)

    wait_until(lambda: not is_running(pid))
    assert not list(head.state_dir.glob("servers/*"))
    with pytest.raises(BridgeClosed):
        bridge.run(["true"])


def test_shutdown_ends_commands_that_run(make_head: MakeHead) -> None:
    head = make_head()
    bridge = head.init(autostart=True)
    command = bridge.popen(["sleep", "600"])
    shutdown_command_server(bridge)
    wait_until(lambda: not is_running(command.pid))


def test_shutdown_without_a_bridge_says_so(near_home: object) -> None:
    with pytest.raises(NoServer) as caught:
        shutdown_command_server()
    assert "init_command_server" in str(caught.value)


def test_a_head_without_pyzmq_works_over_stdio_and_says_why(make_head: MakeHead) -> None:
    head = make_head(zmq=False)
    bridge = head.init(autostart=True)

    status = bridge.status()
    assert (status.transport, status.server_zmq) == ("stdio", "")
    (tunnel,) = [rung for rung in status.rungs if rung.name == "tunnel"]
    assert not tunnel.held
    assert "zmq" in tunnel.reason
    assert "zmq" in str(status)
    finished = bridge.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="in")
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, "in", "err\n")
    assert head.init(autostart=True).status().server_pid == status.server_pid


def test_a_head_with_python_39_and_no_pyzmq_works_over_stdio(
    make_head: MakeHead, python39: Python39
) -> None:
    head = make_head(zmq=False, python=python39.python, user=python39.user)
    bridge = head.init(autostart=True)

    status = bridge.status()
    assert status.transport == "stdio"
    assert " 3.9." in status.server_python
    assert any("zmq" in rung.reason for rung in status.rungs)
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"


def test_a_start_up_file_that_talks_does_not_disturb(make_head: MakeHead) -> None:
    head = make_head()
    noise = "echo welcome; echo beware >&2; printf 'no newline at the end'\n"
    for name in (".bashrc", ".profile"):
        file = head.sshd.home / name
        file.write_text(noise, encoding="utf-8")
        head.sshd.user.own(file)
    assert head.init(autostart=True).run(["echo", "fine"]).stdout == "fine\n"


def test_each_stage_is_told_as_it_ends(make_head: MakeHead) -> None:
    told: list[Stage] = []
    bridge = make_head().init(autostart=True, shims=True, on_stage=told.append)

    names = [stage.name for stage in told]
    assert names[-4:] == ["launch", "tunnel", "handshake", "shims"]
    assert bridge.status().stages == tuple(told)
