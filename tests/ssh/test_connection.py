"""The stages of a connect, what each failure is called, and that nothing stays open."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import (
    AuthenticationRequired,
    CommandServerError,
    ConnectTimedOut,
    ForwardingRefused,
    HostKeyUnknown,
    HostNameUnknown,
    HostUnreachable,
    SshFailed,
)
from smartsim_bridge.ssh.connection import SshConnection
from smartsim_bridge.ssh.target import Target
from smartsim_bridge.stages import Journey
from tests.support.fixtures import Connect, MakeSshd
from tests.support.sshd import Sshd


def open_with_journey(target: Target, seconds: float = 60.0) -> tuple[Journey, SshConnection]:
    journey = Journey(target.alias)
    deadline = Deadline(seconds)
    return journey, SshConnection.open(target, ask=None, deadline=deadline, journey=journey)


def failure(target: Target, seconds: float = 60.0) -> CommandServerError:
    with pytest.raises(CommandServerError) as caught:
        open_with_journey(target, seconds)
    return caught.value


@contextmanager
def port_that(says: bytes | None) -> Iterator[int]:
    """A port that says something and hangs up, or, with None, accepts and keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                kept.append(accepted)
                if says is not None:
                    accepted.sendall(says)
                    accepted.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for accepted in kept:
        accepted.close()


def target_at(port: int, hostname: str = "127.0.0.1") -> Target:
    return Target(hostname, hostname, hostname, port, "me", host_key_name=hostname)


def open_sockets() -> set[str]:
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(name))
    return {name for name in found if name.startswith("socket:")}


# --- what goes well -----------------------------------------------------------------------


def test_key_login_runs_a_command_as_the_user(sshd: Sshd, connect: Connect) -> None:
    done = connect(sshd.target()).execute("id -un; echo $HOME", deadline=Deadline(60))
    assert done.stdout.decode().split() == [sshd.user.name, str(sshd.home)]
    assert done.status == 0


def test_the_journey_tells_each_stage_with_what_came_of_it(sshd: Sshd) -> None:
    journey, connection = open_with_journey(sshd.target())
    with connection:
        stages = {stage.name: stage.detail for stage in journey.stages}
    assert list(stages) == ["resolve", "connect", "host key", "authenticate"]
    assert stages["resolve"] == "127.0.0.1"
    assert stages["connect"] == f"127.0.0.1 port {sshd.port}"
    assert stages["host key"].startswith("ssh-ed25519 SHA256:")
    assert stages["authenticate"] == f"publickey {sshd.identity}"


def test_a_login_is_one_connection_with_no_delay_set(make_sshd: MakeSshd, connect: Connect) -> None:
    running = make_sshd()
    connection = connect(running.target())
    for _ in range(3):
        connection.execute("true", deadline=Deadline(60))
    assert running.wait_for_log("Connection from").count("Connection from") == 1
    stream = connection._transport.sock
    assert isinstance(stream, socket.socket)
    assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_close_is_final_and_may_be_repeated_by_many_threads(sshd: Sshd) -> None:
    _, connection = open_with_journey(sshd.target())
    assert repr(connection) == f"<SshConnection {sshd.target().destination}, open>"
    threads = [threading.Thread(target=connection.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()
    assert not connection.is_alive
    assert repr(connection).endswith("closed>")
    with pytest.raises(SshFailed):
        connection.execute("true", deadline=Deadline(60))


def test_a_closed_connection_leaves_no_thread_and_no_socket(sshd: Sshd) -> None:
    threads, sockets = set(threading.enumerate()), open_sockets()
    _, connection = open_with_journey(sshd.target())
    connection.execute("cat", stdin=b"x", deadline=Deadline(60))
    connection.close()
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert open_sockets() <= sockets


def test_a_host_that_goes_away_is_noticed(make_sshd: MakeSshd, connect: Connect) -> None:
    running = make_sshd()
    connection = connect(running.target())
    running.kill_sessions()
    connection._transport.join(60)
    assert not connection.is_alive
    assert repr(connection).endswith("broken>")


# --- what goes wrong ----------------------------------------------------------------------


def test_nobody_on_the_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(target_at(port))
    assert type(error) is HostUnreachable
    assert (error.host, error.step) == (f"me@127.0.0.1:{port}", "connect")


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "x" * 70])
def test_a_name_without_address_is_unknown(name: str) -> None:
    error = failure(target_at(22, name))
    assert isinstance(error, HostNameUnknown)
    assert error.step == "resolve"


def test_a_full_queue_of_connections_times_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        # Linux drops what does not fit into the queue, as a firewall would.
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        began = time.monotonic()
        error = failure(target_at(listener.getsockname()[1]), seconds=0.3)
        assert time.monotonic() - began < 60
        for filler in fillers:
            filler.close()
    assert isinstance(error, ConnectTimedOut)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak SSH"),
        (b"\0" * 100, "does not speak SSH|hung up"),
        (b"", "does not speak SSH|hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n" + b"\xff" * 64, "hung up"),
    ],
)
def test_what_is_no_ssh_server_is_told_apart(says: bytes, reason: str) -> None:
    with port_that(says) as port:
        error = failure(target_at(port))
    assert type(error) is SshFailed
    assert error.step == "host key"
    assert re.search(reason, str(error)), str(error)


def test_a_silent_port_is_given_up_at_the_deadline() -> None:
    journey = Journey("silent")

    def clock() -> float:  # little is left once the connection is there
        return 59.7 if any(stage.name == "connect" for stage in journey.stages) else 0.0

    deadline = Deadline(60, clock=clock)
    with port_that(None) as port, pytest.raises(SshFailed) as caught:
        SshConnection.open(target_at(port), ask=None, deadline=deadline, journey=journey)
    error = caught.value
    assert type(error) is SshFailed
    assert "in time" in str(error)


def test_a_host_with_weak_algorithms_only_is_refused(make_sshd: MakeSshd) -> None:
    running = make_sshd("Ciphers 3des-cbc", "MACs hmac-sha1")
    error = failure(running.target())
    assert "no algorithm that is safe" in str(error)


def test_an_unknown_host_is_sent_no_login(make_sshd: MakeSshd) -> None:
    running = make_sshd()
    running.known_hosts.unlink()
    error = failure(running.target())
    assert isinstance(error, HostKeyUnknown)
    assert "Failed" not in running.log
    assert "Accepted" not in running.log


def test_a_failed_connect_leaves_no_thread_and_no_socket(make_sshd: MakeSshd) -> None:
    running = make_sshd()
    threads, sockets = set(threading.enumerate()), open_sockets()
    for target in (
        replace(running.target(), identities=()),
        replace(running.target(), known_hosts=()),
    ):
        failure(target)
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert open_sockets() <= sockets


def test_a_failed_handshake_leaves_no_thread_and_no_socket() -> None:
    threads, sockets = set(threading.enumerate()), open_sockets()
    for says in (b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        with port_that(says) as port:
            failure(target_at(port))
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert open_sockets() <= sockets


def test_the_failed_stage_is_told_too(make_sshd: MakeSshd) -> None:
    running = make_sshd()
    journey = Journey("head")
    target = replace(running.target(), identities=())
    with pytest.raises(AuthenticationRequired):
        SshConnection.open(target, ask=None, deadline=Deadline(60), journey=journey)
    assert [(s.name, s.failed) for s in journey.stages][-1] == ("authenticate", True)


def test_a_full_host_refuses_the_second_session(make_sshd: MakeSshd, connect: Connect) -> None:
    connection = connect(make_sshd("MaxSessions 1").target())
    pipe = connection.open_stdio("cat")
    with pytest.raises(SshFailed, match="MaxSessions"):
        connection.execute("true", deadline=Deadline(60))
    pipe.close()


def test_nothing_is_logged_to_the_users_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with port_that(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        failure(target_at(port))
    assert capfd.readouterr() == ("", "")


# --- other ways there ---------------------------------------------------------------------


def with_hop(sshd: Sshd, *gates: Sshd) -> Target:
    return replace(
        sshd.target(),
        jump=tuple(gate.target().destination for gate in gates),
        hops=tuple(gate.target() for gate in gates),
    )


def test_jump_hosts_are_passed_one_through_the_other(make_sshd: MakeSshd, sshd: Sshd) -> None:
    gates = [make_sshd(), make_sshd()]
    journey, connection = open_with_journey(with_hop(sshd, *gates))
    with connection:
        done = connection.execute("echo $HOME", deadline=Deadline(60))
        assert done.stdout.decode().strip() == str(sshd.home)
    assert [stage.name for stage in journey.stages] == [
        "resolve", "connect", "host key", "authenticate",
    ]  # fmt: skip
    assert journey.stages[1].detail == "through head, head"
    for gate in gates:
        assert gate.wait_for_log("Accepted publickey").count("Accepted publickey") == 1


def test_a_jump_host_that_is_unknown_is_named(make_sshd: MakeSshd, sshd: Sshd) -> None:
    gate = make_sshd()
    gate.known_hosts.unlink()
    error = failure(with_hop(sshd, gate))
    assert isinstance(error, HostKeyUnknown)
    assert error.host == gate.target().destination


def test_a_jump_host_that_forbids_forwarding_is_named(make_sshd: MakeSshd, sshd: Sshd) -> None:
    gate = make_sshd("AllowTcpForwarding no")
    error = failure(with_hop(sshd, gate))
    assert isinstance(error, ForwardingRefused)
    assert error.host == gate.target().destination


def test_a_jump_host_that_cannot_reach_the_target_says_so(make_sshd: MakeSshd, sshd: Sshd) -> None:
    target = replace(with_hop(sshd, make_sshd()), port=1)
    error = failure(target)
    assert type(error) is SshFailed
    assert "cannot reach 127.0.0.1:1" in str(error)


def test_jump_through_the_config_works_by_alias(
    make_sshd: MakeSshd, sshd: Sshd, tmp_path: Path, connect: Connect
) -> None:
    gate = make_sshd()
    text = gate.ssh_config.read_text().replace("Host head", "Host gate")
    config = tmp_path / "config"
    config.write_text(text + sshd.ssh_config.read_text() + "  ProxyJump gate\n")
    target = sshd.target(ssh_config=str(config))
    assert connect(target).execute("true", deadline=Deadline(60)).status == 0


def children() -> set[str]:
    """Pids of what this thread has started and not asked for its end, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def proxy(sshd: Sshd, command: str) -> Target:
    return replace(sshd.target(), proxy_command=command)


def test_a_proxy_command_carries_the_connection_and_leaves_no_zombie(sshd: Sshd) -> None:
    program = (
        "import socket, sys, os, threading\n"
        f"s = socket.create_connection(('127.0.0.1', {sshd.port}))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    path = sshd.directory / "proxy.py"
    path.write_text(program)
    before = children()
    _, connection = open_with_journey(proxy(sshd, f"python3 '{path}' # not a comment"))
    with connection:
        assert connection.execute("true", deadline=Deadline(60)).status == 0
    assert children() <= before


def test_a_proxy_command_that_fails_is_quoted(sshd: Sshd) -> None:
    error = failure(proxy(sshd, "sh -c 'echo no way >&2; exit 3'"))
    assert type(error) is SshFailed
    assert "by the ProxyCommand `sh -c 'echo no way >&2; exit 3'`" in error.what
    assert "the ProxyCommand said: no way" in error.what


def test_a_proxy_command_that_hangs_is_ended(sshd: Sshd) -> None:
    began = time.monotonic()
    error = failure(proxy(sshd, "sleep 600"), seconds=0.3)
    assert "in time, by the ProxyCommand `sleep 600`" in error.what
    assert time.monotonic() - began < 60
