from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import ForwardingRefused, NobodyListening, SshFailed
from smartsim_bridge.ssh import tunnel as tunnel_module
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.ssh.socket_directory import PATH_LIMIT
from smartsim_bridge.ssh.tunnel import Tunnel
from tests.support.fixtures import Connect, MakeSshd
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until


class Server:
    """Echoes each connection, and tells when one ended; `mute` ones are not read."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted.append(connection)
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
                if received == b"flood":
                    # More than all buffers on the way hold, in one go and without reading.
                    connection.sendall(b"x" * 20_000_000)
                elif received.endswith(b"sum?"):
                    connection.sendall(b"%d" % len(received))
                else:
                    connection.sendall(data)
        except OSError:
            pass
        connection.close()
        self.ended.release()

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for connection in self.accepted:
            connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def connection(sshd: Sshd, connect: Connect) -> SshConnection:
    return connect(sshd.target())


@pytest.fixture
def tunnel(connection: SshConnection, server: Server, tmp_path: Path) -> Iterator[Tunnel]:
    made = forward(connection, server.port, tmp_path)
    yield made
    made.close()


def forward(connection: SshConnection, port: int, directory: Path) -> Tunnel:
    return connection.forward("127.0.0.1", port, directory=str(directory), deadline=Deadline(60))


def connected(tunnel: Tunnel) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(60)
    stream.connect(tunnel.endpoint[len("ipc://") :])
    return stream


def read_all(stream: socket.socket) -> bytes:
    data = b""
    while part := stream.recv(65536):
        data += part
    return data


# --- what passes --------------------------------------------------------------------------


def test_bytes_pass_both_ways(tunnel: Tunnel) -> None:
    with connected(tunnel) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"


def test_many_connections_pass_at_once(tunnel: Tunnel) -> None:
    streams = [connected(tunnel) for _ in range(30)]
    for number, stream in enumerate(streams):
        stream.sendall(b"%d" % number)
    assert [stream.recv(10) for stream in streams] == [b"%d" % n for n in range(30)]
    for stream in streams:
        stream.close()


def test_what_is_sent_before_the_end_arrives_and_so_does_the_answer(tunnel: Tunnel) -> None:
    """sshtunnel's own pump loses the answer to a half-closed connection."""
    with connected(tunnel) as stream:
        stream.sendall(b"." * 3_000_000 + b"sum?")
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream).endswith(b"3000004")


def test_a_side_that_does_not_read_can_still_send(tunnel: Tunnel, server: Server) -> None:
    """sshtunnel's own pump has one thread for both ways, so a cancellation would wait."""
    with connected(tunnel) as stream:
        stream.sendall(b"flood")
        assert stream.recv(1) == b"x"
        stream.setblocking(False)
        sent = stream.send(b"y" * 100_000)
        assert sent == 100_000
    assert server.ended.acquire(timeout=60)


def test_the_proof_is_the_first_connection(
    connection: SshConnection, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.ssh.tunnel.PROVEN_SECONDS", 600.0)
    with contextlib.closing(forward(connection, server.port, tmp_path)) as tunnel:
        for count in (1, 2):
            with connected(tunnel) as stream:
                stream.sendall(b"x")
                assert stream.recv(1) == b"x"
            assert len(server.accepted) == count


@pytest.mark.parametrize("why", ["ended", "old"])
def test_a_proof_that_is_no_use_any_more_is_no_connection(
    connection: SshConnection,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    if why == "old":
        monkeypatch.setattr("smartsim_bridge.ssh.tunnel.PROVEN_SECONDS", 0.0)
    with contextlib.closing(forward(connection, server.port, tmp_path)) as tunnel:
        if why == "ended":
            wait_until(lambda: server.accepted)
            server.accepted[0].shutdown(socket.SHUT_RDWR)
            proven = tunnel._forwarder._way._proven
            assert proven is not None
            wait_until(lambda: proven.eof_received)
        with connected(tunnel) as stream:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
        assert len(server.accepted) == 2


def test_a_server_that_hangs_up_ends_the_connection(tunnel: Tunnel, server: Server) -> None:
    with connected(tunnel) as stream:
        stream.sendall(b"x")
        stream.recv(1)
        server.accepted[-1].shutdown(socket.SHUT_RDWR)
        assert stream.recv(1) == b""


def test_a_client_that_goes_away_ends_the_connection_on_the_far_side(
    tunnel: Tunnel, server: Server
) -> None:
    stream = connected(tunnel)
    stream.sendall(b"x")
    stream.recv(1)
    stream.close()
    assert server.ended.acquire(timeout=60)


# --- where it is --------------------------------------------------------------------------


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """pytest's own leaves no room for the name of a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_only_the_user_can_reach_the_socket(
    connection: SshConnection, server: Server, short_directory: Path
) -> None:
    with contextlib.closing(forward(connection, server.port, short_directory)) as made:
        path = Path(made.endpoint[len("ipc://") :])
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert path.parent.parent == short_directory
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_long_directory_is_left_for_a_short_one(
    connection: SshConnection, server: Server, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * PATH_LIMIT)
    made = forward(connection, server.port, deep)
    path = Path(made.endpoint[len("ipc://") :])
    assert len(os.fsencode(path)) < PATH_LIMIT
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(deep.iterdir()) == []
    made.close()
    assert not path.parent.exists()


def test_without_unix_sockets_it_listens_on_loopback_only(
    connection: SshConnection, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.ssh.tunnel.HAS_UNIX_SOCKETS", False)
    made = forward(connection, server.port, tmp_path)
    host, port = made.endpoint[len("tcp://") :].split(":")
    assert host == "127.0.0.1"
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
    made.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=60)


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["AllowTcpForwarding no", "PermitOpen none", "DisableForwarding yes"]
)
def test_a_site_that_forbids_forwarding_is_found_out_at_once(
    line: str, make_sshd: MakeSshd, connect: Connect, server: Server, tmp_path: Path
) -> None:
    connection = connect(make_sshd(line).target())
    with pytest.raises(ForwardingRefused) as caught:
        forward(connection, server.port, tmp_path)
    assert caught.value.step == "tunnel"
    assert caught.value.host == connection.target.destination
    assert list(tmp_path.iterdir()) == []
    assert connection.execute("true", deadline=Deadline(60)).status == 0


def test_a_port_where_nobody_listens_is_found_out_at_once(
    connection: SshConnection, server: Server, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NobodyListening, match=str(port)) as caught:
        forward(connection, port, tmp_path)
    assert caught.value.step == "tunnel"
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_closes_later_ends_connections_without_a_word(
    tunnel: Tunnel, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """socketserver would print a traceback for each, and ZMQ tries again and again."""
    with connected(tunnel) as first:  # the one that the proof has opened
        first.sendall(b"x")
        assert first.recv(1) == b"x"
    server.stop_listening()
    with connected(tunnel) as stream:
        assert stream.recv(1) == b""
    assert tunnel.is_alive
    assert capfd.readouterr() == ("", "")


def test_a_closed_connection_makes_no_tunnel(
    sshd: Sshd, connect: Connect, server: Server, tmp_path: Path
) -> None:
    connection = connect(sshd.target())
    connection.close()
    with pytest.raises(SshFailed):
        forward(connection, server.port, tmp_path)


# --- its end ------------------------------------------------------------------------------


def test_a_connection_that_ends_before_the_tunnel_serves_hangs_nobody(
    connection: SshConnection,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the moment between the listener and its thread; sshtunnel then stops what never ran."""
    monkeypatch.setattr(tunnel_module._Forwarder, "is_active", property(lambda _self: False))
    raised: list[BaseException] = []

    def make() -> None:
        try:
            forward(connection, server.port, tmp_path)
        except SshFailed as error:
            raised.append(error)

    making = threading.Thread(target=make, daemon=True)
    making.start()
    making.join(60)
    assert not making.is_alive()
    assert "could not be set up" in str(raised[0])
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_the_connection_and_nothing_else(
    connection: SshConnection, tunnel: Tunnel, server: Server, tmp_path: Path
) -> None:
    stream = connected(tunnel)
    stream.sendall(b"x")
    stream.recv(1)
    assert "open" in repr(tunnel)
    tunnel.close()
    tunnel.close()
    assert stream.recv(1) == b""
    stream.close()
    assert list(tmp_path.iterdir()) == []
    assert "closed" in repr(tunnel)
    assert not tunnel.is_alive
    assert connection.execute("true", deadline=Deadline(60)).status == 0
    forward(connection, server.port, tmp_path).close()


def test_a_broken_connection_ends_what_passes_and_shows(
    make_sshd: MakeSshd, connect: Connect, server: Server, tmp_path: Path
) -> None:
    running = make_sshd()
    tunnel = forward(connect(running.target()), server.port, tmp_path)
    with connected(tunnel) as stream:
        stream.sendall(b"x")
        stream.recv(1)
        running.kill_sessions()
        assert stream.recv(1) == b""
    wait_until(lambda: not tunnel.is_alive)
    assert "broken" in repr(tunnel)
    tunnel.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_does_not_wait_for_who_is_connected(tunnel: Tunnel) -> None:
    with connected(tunnel):
        closing = threading.Thread(target=tunnel.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()


def test_nothing_secret_is_shown(tunnel: Tunnel) -> None:
    shown = f"{tunnel!r} {tunnel} {tunnel._forwarder!r} {tunnel._forwarder}"
    assert "password" not in shown


def test_sshtunnel_leaves_the_loggers_alone(
    tunnel: Tunnel, capfd: pytest.CaptureFixture[str]
) -> None:
    assert logging.getLogger("paramiko.transport").handlers == []
    assert logging.getLogger("py.warnings").handlers == []
    tunnel.close()
    assert capfd.readouterr() == ("", "")
