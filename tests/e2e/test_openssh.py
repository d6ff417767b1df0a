"""The whole bridge on the system's ssh: over a login of its own, and over the user's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.errors import LinkLost, MasterRequired
from tests.support.heads import Head, MakeHead, is_running, processes_with
from tests.support.openssh import live_master_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd


@pytest.fixture
def head(make_head: MakeHead) -> Head:
    return make_head()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Short, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="ssb-run-") as directory:
        yield Path(directory)


def logins(head: Head) -> int:
    return head.sshd.log.count("Accepted publickey for")


def detail(bridge: Bridge, stage: str) -> str:
    return next(one.detail for one in bridge.status().stages if one.name == stage)


@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_each_rung_works_over_one_login_of_its_own(transport: str, head: Head) -> None:
    bridge = head.init(autostart=True, ssh="openssh", transport=transport)
    assert bridge.status().transport == transport
    assert "system's ssh" in detail(bridge, "authenticate")
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"
    assert logins(head) == 1


@pytest.mark.parametrize("engine", ["auto", "openssh", "master"])
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_a_live_master_of_the_user_is_used_and_left_alone(
    engine: str, transport: str, head: Head
) -> None:
    with live_master_of(head.sshd) as socket:
        wait_until(lambda: logins(head) == 1)  # the master may be told before the log
        bridge = head.init(autostart=True, ssh=engine, transport=transport)
        assert bridge.run(["echo", "hello"]).stdout == "hello\n"
        assert detail(bridge, "authenticate") == "over your ControlMaster"
        bridge.close()
        assert socket.exists()
        done = subprocess.run(
            [*head.sshd.ssh_command("echo", "still")], check=False, capture_output=True
        )
        assert done.stdout == b"still\n"
    assert logins(head) == 1
    assert head.sshd.log.count("Connection from") == 1


def test_without_a_master_none_is_made_where_one_is_required(head: Head) -> None:
    with pytest.raises(MasterRequired) as caught:
        head.init(autostart=True, ssh="master")
    path = f"{os.environ['HOME']}/.ssh/ssb-%C"
    assert f"ssh -fN -o ControlMaster=auto -S {path}" in caught.value.advice
    assert "Connection from" not in head.sshd.log


def test_the_command_that_the_error_names_makes_the_master(
    head: Head, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(runtime))
    with pytest.raises(MasterRequired) as caught:
        head.init(autostart=True, ssh="master")
    (runtime / ".ssh").mkdir(mode=0o700)
    command = caught.value.advice.partition("with: ")[2]
    subprocess.run(["sh", "-c", command], check=True, timeout=60, stderr=subprocess.DEVNULL)
    (socket,) = (runtime / ".ssh").glob("ssb-*")
    # As after a power cut: the socket stays, and is in nobody's way.
    for master in processes_with("-S", str(runtime / ".ssh/ssb-%C")):
        os.kill(master, signal.SIGKILL)
    wait_until(lambda: head.sshd.session_pids() == [])
    assert socket.exists()
    subprocess.run(["sh", "-c", command], check=True, timeout=60, stderr=subprocess.DEVNULL)
    try:
        # Also where nobody named an engine: the place that we suggest is looked at.
        for engine in ("master", "auto"):
            bridge = head.init(autostart=True, ssh=engine)
            assert detail(bridge, "authenticate") == "over your ControlMaster"
            bridge.close()
    finally:
        subprocess.run(
            ["ssh", "-F", "/dev/null", "-S", str(socket), "-O", "exit", "head"],
            check=True,
            capture_output=True,
        )
    assert logins(head) == 2


def test_a_broken_connection_is_made_again(head: Head) -> None:
    bridge = head.init(autostart=True, ssh="openssh", transport="tunnel")
    head.sshd.kill_sessions()
    wait_until(lambda: bridge.status().reconnects == 1)
    assert bridge.run(["echo", "again"]).stdout == "again\n"
    assert logins(head) == 2


def test_a_dead_master_of_the_user_is_not_replaced(head: Head) -> None:
    with live_master_of(head.sshd):
        bridge = head.init(autostart=True, ssh="master", transport="tunnel")
        command = bridge.popen(["sleep", "600"])
    with pytest.raises((MasterRequired, LinkLost)) as caught:
        command.wait(timeout=60)
    assert isinstance(caught.value, MasterRequired)
    with pytest.raises(MasterRequired):
        bridge.run(["true"])
    assert head.sshd.log.count("Connection from") == 1
    with live_master_of(head.sshd):
        assert bridge.run(["echo", "again"]).stdout == "again\n"
        assert bridge.attach(command.id).poll() is None
        bridge.close()
    assert logins(head) == 2


def test_what_paramiko_cannot_honour_takes_the_other_engine(head: Head) -> None:
    config = head.sshd.ssh_config
    config.write_text(config.read_text() + "  CanonicalizeHostname always\n")
    bridge = head.init(autostart=True)
    assert "cannot honour CanonicalizeHostname" in detail(bridge, "resolve")
    assert "system's ssh" in detail(bridge, "authenticate")


def test_a_host_with_weak_algorithms_only_is_reached_where_they_are_asked_for_by_name(
    make_head: MakeHead,
) -> None:
    head = make_head("MACs hmac-md5", "Ciphers aes128-ctr")
    config = head.sshd.ssh_config
    config.write_text(f"MACs +hmac-md5\n{config.read_text()}")
    bridge = head.init(autostart=True)
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"
    assert "MACs +hmac-md5" in detail(bridge, "resolve")
    assert logins(head) == 1


def test_a_thousand_commands_over_one_login(head: Head) -> None:
    bridge = head.init(autostart=True, ssh="openssh", transport="stdio")
    running = [bridge.popen(["echo", str(number)], stdout=-1) for number in range(1000)]
    answers = [command.communicate(timeout=60)[0] for command in running]
    assert answers == [f"{number}\n".encode() for number in range(1000)] or answers == [
        f"{number}\n" for number in range(1000)
    ]
    assert logins(head) == 1


CLIENT = """
import sys
from smartsim_bridge import init_command_server
bridge = init_command_server(
    "head", autostart=True, ssh="openssh", ssh_config=sys.argv[1], python=sys.argv[2])
print("up", flush=True)
sys.stdin.read()
"""


def test_a_client_that_is_killed_leaves_no_ssh_and_no_directory(head: Head, runtime: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(head.sshd.ssh_config), head.python],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        (socket,) = runtime.glob("**/m")
        masters = processes_with("-S", str(socket))
        assert masters
        client.send_signal(signal.SIGKILL)
        client.wait()
    wait_until(lambda: not any(map(is_running, masters)))
    wait_until(lambda: not socket.parent.exists())
    wait_until(lambda: head.sshd.session_pids() == [])
