"""A server that was stopped, or hangs: told as what it is, and never doubled."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from smartsim_bridge.errors import PeerSilent
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer

# Long before the time for the whole init is over, on a machine that is busy as well.
INIT_SECONDS = 600.0
MOST_SECONDS = 120.0


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def check(fault: PeerSilent, pid: int, began: float) -> None:
    assert f"pid {pid}, lives and does not answer" in fault.what
    assert f"kill -CONT {pid}" in fault.advice
    assert fault.host == socket.gethostname() or fault.host
    assert time.monotonic() - began < MOST_SECONDS


def test_here_it_is_told_with_its_pid(local_server: LocalServer) -> None:
    began = time.monotonic()
    with frozen(local_server.pid), pytest.raises(PeerSilent) as raised:
        local_server.init(autostart=True, timeout=INIT_SECONDS)
    check(raised.value, local_server.pid, began)
    assert local_server.init().run(["echo", "thawed"]).stdout == "thawed\n"


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["auto", "tunnel", "stdio"])
def test_over_ssh_it_is_told_with_its_pid_and_no_second_one_is_started(
    transport: str, make_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    head = make_head()
    head.init(autostart=True).close()
    (pid,) = head.server_pids()

    began = time.monotonic()
    with frozen(pid), pytest.raises(PeerSilent) as raised:
        head.init(autostart=True, transport=transport, timeout=INIT_SECONDS)
    check(raised.value, pid, began)
    assert head.server_pids() == [pid]
    assert head.init().status().server_pid == pid
