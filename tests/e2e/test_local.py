"""On the head itself, and with a home that the head shares: no SSH."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smartsim_bridge import Bridge, errors, init_command_server, shutdown_command_server
from smartsim_bridge.errors import CommandServerError
from tests.support.heads import MakeHead, is_running, servers_in, stop_servers
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.users import us
from tests.support.waiting import wait_until


@pytest.fixture
def state_dir(make_local_server: MakeLocalServer) -> Path:
    """Named in the environment; nothing runs there yet, and nothing does afterwards."""
    return Path(os.environ["SMARTSIM_BRIDGE_STATE_DIR"])


@pytest.fixture
def started_here(state_dir: Path) -> object:
    yield
    stop_servers(state_dir)


@pytest.mark.usefixtures("started_here")
def test_autostart_here_needs_no_ssh(state_dir: Path) -> None:
    with init_command_server(autostart=True) as bridge:
        status = bridge.status()
        assert (status.transport, status.started) == ("local", True)
        assert [beacon.pid for beacon in servers_in(state_dir)] == [status.server_pid]
        assert bridge.run(["echo", "here"]).stdout == "here\n"
        with init_command_server(autostart=True) as second:
            assert second.status().server_pid == status.server_pid
            assert not second.status().started


@pytest.mark.usefixtures("started_here")
def test_a_server_started_here_outlives_us(state_dir: Path) -> None:
    with init_command_server(autostart=True) as bridge:
        pid = bridge.status().server_pid
    assert is_running(pid)
    bridge = init_command_server()
    assert bridge.status().server_pid == pid
    shutdown_command_server(bridge)
    wait_until(lambda: not is_running(pid))


def test_neither_local_nor_direct_loads_ssh(local_server: LocalServer) -> None:
    script = """
import sys
from smartsim_bridge import init_command_server
with init_command_server(transport=sys.argv[1]) as bridge:
    assert bridge.run(["true"]).returncode == 0
    print(bridge.status().transport, sorted({"paramiko", "sshtunnel"} & set(sys.modules)))
"""
    for transport, expected in (
        ("local", "local []"),
        ("direct", "direct []"),
        ("auto", "local []"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, transport],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.strip() == expected, done.stderr


def test_importing_loads_neither_zmq_nor_paramiko() -> None:
    script = "import sys, smartsim_bridge; print(sorted({'zmq', 'paramiko'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_direct_is_zmq_with_the_credentials_of_the_beacon(local_server: LocalServer) -> None:
    bridge = local_server.init(transport="direct")
    status = bridge.status()
    assert status.transport == "direct"
    assert status.endpoint == f"tcp://127.0.0.1:{local_server.port}"
    assert status.server_pid == local_server.pid
    assert bridge.run(["cat"], input="direct").stdout == "direct"


def test_with_the_port_alone_the_server_is_found(local_server: LocalServer) -> None:
    bridge = local_server.init(addr="127.0.0.1", port=local_server.port)
    assert bridge.status().server_pid == local_server.pid
    with pytest.raises(errors.NobodyListening):
        local_server.init(addr="127.0.0.1", port=1)


def own_address() -> str:
    """An address of this host that other hosts could use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks for the way
        except OSError:
            pytest.skip("this host has no address but its loopback")
        return str(probe.getsockname()[0])


def test_a_head_that_shares_the_home_is_reached_directly(
    make_local_server: MakeLocalServer,
) -> None:
    """As on a compute node: the beacon is that of another host, and its address answers."""
    server = make_local_server("--port", "0", "--addr", "127.0.0.1", "--addr", own_address())
    (file,) = server.state_dir.glob("servers/*.json")
    content = json.loads(file.read_text("utf-8"))
    content.update({"host": "login1.site", "boot_id": "another", "pid": 2, "socket": "/nowhere"})
    file.write_text(json.dumps(content), encoding="utf-8")

    bridge = server.init(addr="login1")
    status = bridge.status()
    assert status.transport == "direct"
    assert own_address() in status.endpoint
    assert [rung.name for rung in status.rungs] == ["local", "direct"]
    assert bridge.run(["echo", "shared home"]).stdout == "shared home\n"


@pytest.mark.sshd
def test_a_readable_beacon_saves_the_login(
    make_head: MakeHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make_head(user=us())
    pid = head.init(autostart=True).status().server_pid
    logins = head.sshd.log.count("Accepted publickey")
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(head.state_dir))
    monkeypatch.setattr("socket.gethostname", lambda: head.beacon().host)
    bridge = head.init(addr=head.beacon().host)
    assert (bridge.status().transport, bridge.status().server_pid) == ("direct", pid)
    assert head.sshd.log.count("Accepted publickey") == logins


def test_the_beacon_of_a_killed_server_is_passed_over(local_server: LocalServer) -> None:
    local_server.process.kill()
    local_server.process.wait(60)
    assert list(local_server.state_dir.glob("servers/*.json"))
    with pytest.raises(errors.NoServer):
        local_server.init(transport="local")
    with pytest.raises(CommandServerError):
        local_server.init()


@pytest.mark.usefixtures("started_here")
def test_after_sigkill_here_the_next_init_starts_one(state_dir: Path) -> None:
    with init_command_server(autostart=True, reconnect=0) as bridge:
        killed = bridge.status().server_pid
        command = bridge.popen(["sleep", "60"])
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(errors.LinkLost):
            command.wait(60)
    with init_command_server(autostart=True) as bridge:
        assert bridge.status().started
        assert [beacon.pid for beacon in servers_in(state_dir)] == [bridge.status().server_pid]


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff" * 100, b"[]", b"{}", b"x" * 100_000])
def test_junk_among_the_beacons_disturbs_nobody(junk: bytes, local_server: LocalServer) -> None:
    (local_server.state_dir / "servers" / "aaa.json").write_bytes(junk)
    (local_server.state_dir / "servers" / "zzz.key").write_bytes(junk)
    assert local_server.init().run(["true"]).returncode == 0


def test_a_pipe_among_the_beacons_blocks_nobody(local_server: LocalServer) -> None:
    os.mkfifo(local_server.state_dir / "servers" / "aaa.json")
    assert local_server.init().run(["true"]).returncode == 0


@pytest.mark.usefixtures("started_here")
def test_variables_of_the_enclosing_job_stay_out(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PMIX_RANK", "0")

    def seen(bridge: Bridge) -> list[str]:
        lines = bridge.run(["env"]).stdout.splitlines()
        return [line for line in lines if line.startswith(("SLURM_", "PMIX_", "SMARTSIM_BRIDGE_"))]

    with init_command_server(autostart=True) as bridge:
        assert seen(bridge) == []
