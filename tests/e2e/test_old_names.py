"""`smartsim_bridge.remote`: what SmartSim's own command server was called, and what it did."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import remote
from smartsim_bridge.errors import NobodyListening
from tests.support.local_server import LocalServer, MakeLocalServer

# The promise to the user is five seconds; a busy machine needs some of its own, but ends before
# the half minute that an init has otherwise.
PROMISED, WITHIN = 5.0, 25.0


@pytest.fixture(autouse=True)
def _fresh_process(near_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been initialised in this process."""
    monkeypatch.setattr("smartsim_bridge.current._current", None)
    monkeypatch.setenv("SMARTSIM_REMOTE", "")


@pytest.fixture
def server(local_server: LocalServer) -> Iterator[LocalServer]:
    with remote.init_command_server("127.0.0.1", local_server.port):
        yield local_server


@pytest.mark.usefixtures("server")
def test_execute_cmd_gives_status_and_both_streams() -> None:
    done = remote.execute_cmd(["sh", "-c", "cat; echo err >&2; exit 3"], proc_input=b"in")
    assert done == (3, "in", "err\n")


@pytest.mark.usefixtures("server")
def test_execute_cmd_takes_all_its_words_by_position(tmp_path: Path) -> None:
    done = remote.execute_cmd(
        ["echo $PWD $COLOUR; cat"], True, str(tmp_path), {"COLOUR": "red"}, b"in", 10
    )
    assert done == (0, f"{tmp_path} red\nin", "")


@pytest.mark.usefixtures("server")
def test_execute_cmd_without_input_does_not_wait_for_it() -> None:
    assert remote.execute_cmd(["cat"], timeout=60) == (0, "", "")
    assert remote.execute_cmd(["cat"], proc_input=b"", timeout=60) == (0, "", "")


@pytest.mark.usefixtures("server")
def test_execute_cmd_raises_after_its_time() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        remote.execute_cmd(["sleep", "600"], timeout=0.2)


@pytest.mark.usefixtures("server")
def test_execute_async_cmd_gives_a_running_command() -> None:
    command = remote.execute_async_cmd(["cat"])
    assert command.poll() is None
    assert command.communicate("in") == ("in", "")
    assert command.returncode == 0


def test_the_address_in_the_environment_is_no_secret(server: LocalServer) -> None:
    assert os.environ["SMARTSIM_REMOTE"] == f"127.0.0.1:{server.port}"


def test_a_child_process_finds_the_server_by_the_address(server: LocalServer) -> None:
    script = "from smartsim_bridge.remote import execute_cmd; print(execute_cmd(['echo', 'hi']))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "(0, 'hi\\n', '')\n", done.stderr


def test_nobody_there_is_told_within_five_seconds() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(remote.CommandServerError) as caught:
            remote.init_command_server(addr="127.0.0.1", port=unused.getsockname()[1])
    assert time.monotonic() - began < WITHIN
    assert remote.CONNECT_SECONDS == PROMISED
    assert isinstance(caught.value, NobodyListening)
    assert "start_cmd_server.py" in str(caught.value)


def test_somebody_who_says_nothing_is_told_within_five_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(remote.CommandServerError):
            remote.init_command_server(addr="127.0.0.1", port=silent.getsockname()[1])
    assert time.monotonic() - began < WITHIN


def test_without_init_and_address_it_is_told() -> None:
    with pytest.raises(remote.CommandServerError) as caught:
        remote.execute_cmd(["true"])
    assert "init_command_server" in str(caught.value)


def test_the_default_port_is_that_of_the_script(make_local_server: MakeLocalServer) -> None:
    from inspect import signature

    assert signature(remote.init_command_server).parameters["port"].default == 5555
    assert signature(remote.init_command_server).parameters["addr"].default == "127.0.0.1"


def test_shutdown_ends_the_server(server: LocalServer) -> None:
    remote.shutdown_command_server()
    assert server.process.wait(60) == 0
    with pytest.raises(remote.CommandServerError):
        remote.execute_cmd(["true"])


def test_the_words_that_the_server_prints_do_connect(local_server: LocalServer) -> None:
    (line,) = [line for line in local_server.said if "connect with" in line]
    call = line.partition("connect with ")[2].strip()
    script = f"from smartsim_bridge import *\nprint({call}.status().server_pid)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{local_server.pid}\n", done.stderr
