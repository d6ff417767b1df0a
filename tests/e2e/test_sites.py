"""Sites that forbid something: the next rung is taken, and status says why."""

from __future__ import annotations

import socket

import pytest

from smartsim_bridge import BridgeStatus, Rung, errors, shutdown_command_server
from smartsim_bridge.errors import CommandServerError, LinkLost
from tests.support.heads import MakeHead
from tests.support.users import User
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd


def rung(status: BridgeStatus, name: str) -> Rung:
    return [one for one in status.rungs if one.name == name][-1]


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The near side takes itself for another host than the head, as it is in life."""
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_where_forwarding_is_forbidden_and_the_port_answers_direct_holds(
    line: str, make_head: MakeHead
) -> None:
    status = make_head(line).init(autostart=True).status()
    assert status.transport == "direct"
    assert rung(status, "tunnel").reason


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_where_forwarding_is_forbidden_stdio_holds(line: str, make_head: MakeHead) -> None:
    bridge = make_head(line).init(autostart=True)

    status = bridge.status()
    assert status.transport == "stdio"
    tunnel = rung(status, "tunnel")
    assert tunnel.tried
    assert not tunnel.held
    assert tunnel.reason
    assert "forward" in tunnel.reason.lower() or "refuse" in tunnel.reason.lower()
    assert tunnel.reason in str(status)
    assert bridge.run(["echo", "over stdio"]).stdout == "over stdio\n"


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "PermitOpen none"])
def test_where_forwarding_is_forbidden_the_tunnel_alone_is_refused(
    line: str, make_head: MakeHead
) -> None:
    head = make_head(line)
    with pytest.raises(CommandServerError) as caught:
        head.init(autostart=True, transport="tunnel")
    assert isinstance(caught.value, errors.ForwardingRefused), repr(caught.value)
    assert caught.value.host
    assert caught.value.step
    wait_until(lambda: head.sshd.session_pids() == [])


def test_without_pyzmq_the_tunnel_alone_is_refused(make_head: MakeHead) -> None:
    with pytest.raises(CommandServerError) as caught:
        make_head(zmq=False).init(autostart=True, transport="tunnel")
    assert "zmq" in str(caught.value)
    assert caught.value.host
    assert "stdio" in caught.value.advice


def test_one_session_at_a_time_is_enough_for_the_tunnel(make_head: MakeHead) -> None:
    bridge = make_head("MaxSessions 1").init(autostart=True)
    assert bridge.status().transport == "tunnel"
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"


@pytest.mark.usefixtures("far_away")
def test_one_session_at_a_time_is_enough_for_stdio(make_head: MakeHead) -> None:
    bridge = make_head("MaxSessions 1", "AllowTcpForwarding no").init(autostart=True)
    assert bridge.status().transport == "stdio"
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"


def test_a_banner_does_not_disturb(make_head: MakeHead) -> None:
    head = make_head("Banner /etc/services")
    assert head.init(autostart=True).status().transport == "tunnel"


def test_a_forced_command_is_shown(make_head: MakeHead) -> None:
    head = make_head("ForceCommand echo this account is for file transfer only")
    with pytest.raises(errors.CommandsForbidden, match="file transfer only"):
        head.init(autostart=True)


def test_an_account_that_nobody_may_log_in_to_is_told(make_head: MakeHead) -> None:
    with pytest.raises(errors.NoLoginShell, match="not available"):
        make_head("ForceCommand /usr/sbin/nologin").init(autostart=True)


@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_a_connection_that_breaks_is_told_and_the_server_stays(
    transport: str, make_head: MakeHead
) -> None:
    head = make_head()
    bridge = head.init(autostart=True, transport=transport, reconnect=0)
    pid = bridge.status().server_pid
    command = bridge.popen(["sleep", "600"])
    head.sshd.kill_sessions()

    with pytest.raises(LinkLost):
        command.wait(60)
    status = bridge.status()
    assert not status.connected
    assert status.fault
    assert bridge.run(["true"]).returncode == 0, "the next call looks for another link"
    assert bridge.status().server_pid == pid


@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_a_connection_that_breaks_is_made_again_and_the_command_goes_on(
    transport: str, make_head: MakeHead
) -> None:
    head = make_head()
    bridge = head.init(autostart=True, transport=transport)
    pid = bridge.status().server_pid
    with bridge.popen(["sh", "-c", "echo $$; read line; echo $line"]) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert int(command.stdout.readline()) == command.pid
        head.sshd.kill_sessions()
        print("said after it broke", file=command.stdin, flush=True)
        assert command.stdout.read() == "said after it broke\n"
    status = bridge.status()
    assert (status.transport, status.server_pid, status.reconnects) == (transport, pid, 1)


@pytest.mark.usefixtures("far_away")
def test_one_login_serves_everything(make_head: MakeHead) -> None:
    head = make_head("AllowTcpForwarding no")
    bridge = head.init(autostart=True)
    assert bridge.status().transport == "stdio"
    assert head.sshd.log.count("Accepted publickey") == 1


def test_the_server_goes_where_the_home_cannot_be_written(
    make_head: MakeHead, lonely_user: User
) -> None:
    head = make_head(user=lonely_user)
    head.sshd.home.chmod(0o500)
    bridge = head.init(autostart=True)
    assert bridge.run(["echo", "hello"]).stdout == "hello\n"
    assert not head.state_dir.exists()
    assert head.init(autostart=True).status().server_pid == bridge.status().server_pid
    shutdown_command_server(bridge)
