"""Many threads, many channels, one connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import paramiko
import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.ssh.transport import Transport
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd


@pytest.fixture
def connection(sshd: Sshd, connect: Connect) -> SshConnection:
    return connect(sshd.target())


@pytest.mark.sshd
def test_ends_that_cross_do_not_break_the_connection(connection: SshConnection) -> None:
    """The command ends by itself while its input is ended: OpenSSH takes no EOF after CLOSE."""

    def ask(number: int) -> bytes:
        command = f"exec <&-; echo {number}"
        return connection.execute(command, stdin=b"x" * 100, deadline=Deadline(20)).stdout

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(150)))
    assert said == [b"%d\n" % number for number in range(150)]
    assert connection.is_alive


class _Recorded(Transport):
    """Sends nothing, remembers what would have gone."""

    def __init__(self) -> None:
        self._closed_channels = set()
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
