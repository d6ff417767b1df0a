"""The embedded head node is private while it is there, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import paramiko
import pytest

from smartsim_bridge.demo import embedded
from smartsim_bridge.demo.embedded import EmbeddedHeadNode
from smartsim_bridge.errors import LaunchFailed

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def start_and_leave(head: EmbeddedHeadNode) -> int:
    """Leaves a process on the head, as a command server is left; returns its pid."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(head.known_hosts))
        client.connect(
            "127.0.0.1",
            head.ssh_port,
            username=head.user,
            key_filename=str(head.identity),
            allow_agent=False,
            look_for_keys=False,
        )
        _, out, _ = client.exec_command("sleep 600 </dev/null >/dev/null 2>&1 & echo $!")
        return int(out.read())


def read_to_the_end(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_directory_and_keys_are_ours_alone(head: EmbeddedHeadNode) -> None:
    assert mode(head.directory) == 0o700
    assert mode(head.identity) == 0o600
    assert mode(head.directory / "host_key") == 0o600


def test_listens_on_loopback_only(head: EmbeddedHeadNode) -> None:
    local = Path("/proc/net/tcp")
    if not local.exists():
        pytest.skip("no /proc/net/tcp")
    listening = [line.split()[1] for line in local.read_text().splitlines() if " 0A " in line]
    mine = [place for place in listening if place.endswith(f":{head.ssh_port:04X}")]
    assert mine == [f"0100007F:{head.ssh_port:04X}"]


def test_close_ends_the_child_and_removes_the_directory() -> None:
    head = EmbeddedHeadNode()
    pid = head.pid
    assert repr(head) == "<EmbeddedHeadNode demo@127.0.0.1 running>"
    head.close()
    head.close()
    assert not is_alive(pid)
    assert not head.directory.exists()
    assert head.left == ()
    assert repr(head) == "<EmbeddedHeadNode demo@127.0.0.1 closed>"


@linux_only
def test_close_names_and_ends_what_a_session_left_running() -> None:
    head = EmbeddedHeadNode()
    pid = start_and_leave(head)
    assert is_alive(pid)
    head.close()
    assert head.left == (f"{pid} sleep 600",)
    assert not is_alive(pid)


def test_child_goes_when_its_parent_is_killed() -> None:
    code = (
        "import sys\n"
        "from smartsim_bridge.demo.embedded import EmbeddedHeadNode\n"
        "head = EmbeddedHeadNode()\n"
        "print(head.ssh_port, head.directory, flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = str(Path(embedded.__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    with parent:
        assert parent.stdout is not None
        port, directory = parent.stdout.readline().decode().split()
        with socket.create_connection(("127.0.0.1", int(port)), 60) as connection:
            parent.send_signal(signal.SIGKILL)
            read_to_the_end(connection)  # or TimeoutError
    shutil.rmtree(directory)  # which nobody was left to do


def test_child_that_cannot_start_is_reported_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "AUTHORIZED_KEY", "misplaced")
    with pytest.raises(LaunchFailed) as failed:
        EmbeddedHeadNode()
    assert "FileNotFoundError" in failed.value.noise
