"""Many threads, many channels, one connection."""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import SshFailed
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.ssh.transport import Transport
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd

SERVICE_REQUEST, USERAUTH_REQUEST = 5, 50


@pytest.fixture
def connection(sshd: Sshd, connect: Connect) -> SshConnection:
    return connect(sshd.target())


@pytest.mark.sshd
def test_ends_that_cross_do_not_break_the_connection(connection: SshConnection) -> None:
    """The command ends by itself while its input is ended: OpenSSH takes no EOF after CLOSE."""

    def ask(number: int) -> bytes:
        command = f"exec <&-; echo {number}"
        return connection.execute(command, stdin=b"x" * 100, deadline=Deadline(60)).stdout

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(150)))
    assert said == [b"%d\n" % number for number in range(150)]
    assert connection.is_alive


class _Recorded(Transport):
    """Sends nothing, remembers what would have gone."""

    def __init__(self, sock: object = None) -> None:
        self._closed_channels = set()
        self.sock = sock  # type: ignore[assignment]
        self.sent: list[int] = []
        self.packetizer = self  # type: ignore[assignment]

    def send_message(self, data: paramiko.Message) -> None:
        self.sent.append(data.asbytes()[0])


def about(kind: int, channel: int) -> paramiko.Message:
    message = paramiko.Message()
    message.add_byte(bytes([kind]))
    message.add_int(channel)
    return message


def test_nothing_is_said_of_a_channel_after_its_close() -> None:
    transport = _Recorded()
    for kind in (94, 96, 97, 94, 96, 97, 93, 98):
        transport._send_message(about(kind, 5))
    transport._send_message(about(94, 6))
    transport._send_message(about(90, 5))  # CHANNEL_OPEN: the number is ours there
    assert transport.sent == [94, 96, 97, 94, 90]


class _Hurried(socket.socket):
    """Remembers how often it was told to acknowledge at once."""

    def __init__(self) -> None:
        super().__init__()
        self.hurried: list[Any] = []

    def setsockopt(self, *arguments: Any) -> None:
        self.hurried.append(arguments)
        super().setsockopt(*arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="a word that only Linux knows")
def test_what_a_host_says_to_a_new_channel_is_acknowledged_at_once() -> None:
    with _Hurried() as stream:
        transport = _Recorded(stream)
        transport._send_message(about(94, 5))
        assert not stream.hurried
        transport._send_message(about(90, 5))
        assert stream.hurried == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]


def test_a_stream_that_is_no_connection_of_tcp_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for stream in (ours, object()):  # a ProxyCommand, a channel of a jump host
            transport = _Recorded(stream)
            transport._send_message(about(90, 5))
            assert transport.sent == [90]


@pytest.mark.sshd
def test_a_login_of_several_attempts_asks_for_the_service_once(
    sshd: Sshd, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = paramiko.Transport._send_message  # type: ignore[attr-defined]

    def record(transport: paramiko.Transport, data: paramiko.Message) -> None:
        sent.append(data.asbytes()[0])
        send(transport, data)

    monkeypatch.setattr(paramiko.Transport, "_send_message", record)
    connect(sshd.target())
    assert sent.count(SERVICE_REQUEST) == 1
    assert sent.count(USERAUTH_REQUEST) == 2  # none, and then the key


@pytest.mark.sshd
def test_a_signature_that_fails_is_the_end_of_the_login(
    sshd: Sshd, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise paramiko.SSHException("the agent is gone")

    monkeypatch.setattr(AuthHandler, "_get_session_blob", fail)
    with pytest.raises(SshFailed, match="the agent is gone"):
        connect(sshd.target())
