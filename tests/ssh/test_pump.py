"""The pump between a socket pair and a real channel; its use is tested with pipe and tunnel."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.ssh import transport as transport_module
from smartsim_bridge.ssh.execution import open_session
from smartsim_bridge.ssh.pump import Pump
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until


@pytest.fixture
def transport(sshd: Sshd, connect: Connect) -> paramiko.Transport:
    return connect(sshd.target())._transport


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(60)
    with near, far:
        yield near, far


def session(transport: paramiko.Transport, command: str) -> paramiko.Channel:
    return open_session(transport, command, "head", Deadline(60))


def test_the_end_of_our_side_is_passed_on_and_the_answer_still_comes(
    transport: paramiko.Transport, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    pump = Pump(far, session(transport, "wc -c"))
    pump.start()
    near.sendall(b"x" * 100_000)
    near.shutdown(socket.SHUT_WR)
    assert near.recv(100).strip() == b"100000"
    assert near.recv(100) == b""
    pump.wait()


def test_the_end_of_the_far_side_is_passed_on_and_we_may_go_on(
    transport: paramiko.Transport, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = listener.getsockname()
        pump = Pump(far, transport.open_channel("direct-tcpip", place, ("127.0.0.1", 0)))
        pump.start()
        server, _ = listener.accept()
    with server:
        server.settimeout(60)
        server.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        near.sendall(b"last words")
        near.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b"last words"
        assert server.recv(100) == b""
    pump.wait()


def test_the_end_of_the_command_ends_both_directions(
    transport: paramiko.Transport, ends: tuple[socket.socket, socket.socket]
) -> None:
    _near, far = ends
    pump = Pump(far, session(transport, "true"))
    pump.start()
    pump.wait()
    assert far.fileno() == -1


def test_what_a_command_said_arrives_though_it_took_nothing_of_ours(
    transport: paramiko.Transport,
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As nologin(8) does: it says why, and is gone before our script is on its way."""
    near, far = ends
    channel = session(transport, "echo why")
    wait_until(lambda: channel.closed)
    pump = Pump(far, channel)
    sender, read = pump._threads[0], channel.recv

    def read_late(size: int) -> bytes:
        sender.join()
        return read(size)

    monkeypatch.setattr(channel, "recv", read_late)
    near.sendall(b"script")
    pump.start()
    assert near.recv(100) == b"why\n"
    assert near.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        near.sendall(b"more of it")
    pump.wait()


def test_close_cuts_both_directions_in_the_middle_of_a_flood(
    transport: paramiko.Transport, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    pump = Pump(far, session(transport, "exec cat /dev/zero"))
    pump.start()
    assert near.recv(1) == b"\0"
    pump.close()
    pump.wait()
    assert far.fileno() == -1
    assert transport.is_active()


def test_close_returns_though_the_host_takes_nothing_more(
    transport: paramiko.Transport,
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the network is lost under an upload: whoever sends holds this lock for minutes."""
    monkeypatch.setattr(transport_module, "TURN_SECONDS", 0.1)
    _near, far = ends
    pump = Pump(far, session(transport, "exec cat"))
    pump.start()
    closing = threading.Thread(target=pump.close, daemon=True)
    transport.clear_to_send_lock.acquire()
    try:
        closing.start()
        closing.join(60)
        assert not closing.is_alive()
        # Nobody waits as long again, until something was sent.
        monkeypatch.setattr(transport_module, "TURN_SECONDS", 60.0)
        with pytest.raises(paramiko.SSHException, match="nothing more"):
            transport.clear_to_send_lock.acquire()
    finally:
        transport.clear_to_send_lock.release()
    transport.clear_to_send_lock.acquire()
    transport.clear_to_send_lock.release()
