"""Clients and servers of other versions: they understand each other, or say so at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smartsim_bridge import __version__, init_command_server
from smartsim_bridge.errors import VersionMismatch
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.protocol.messages import OLDEST_PROTOCOL, PROTOCOL_VERSION, Hello, Refusal
from tests.support.altered_server import alter_server
from tests.support.command_line import PROGRAM
from tests.support.figures import Figure
from tests.support.flaky_proxy import FlakyProxy, proxied_state
from tests.support.heads import MakeHead, is_running
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.loops import run
from tests.support.waiting import wait_until

SECONDS = 60.0
NEXT, PREVIOUS = PROTOCOL_VERSION + 1, OLDEST_PROTOCOL - 1
OTHER_VERSION = "47.11"  # of the package

Alter = Callable[[int, int], None]


@pytest.fixture
def alter_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Alter:
    """Servers that are made from now on speak these protocols and no other."""

    def alter(oldest: int, newest: int) -> None:
        alter_server(
            monkeypatch,
            tmp_path,
            "from smartsim_bridge.server import __main__, serve",
            f"__main__.__version__ = {OTHER_VERSION!r}",
            f"serve.OLDEST_PROTOCOL, serve.PROTOCOL_VERSION = {oldest}, {newest}",
        )

    return alter


@pytest.fixture
def alter_us(monkeypatch: pytest.MonkeyPatch) -> Alter:
    """Our own clients speak these protocols and no other."""

    def alter(oldest: int, newest: int) -> None:
        monkeypatch.setattr("smartsim_bridge.client.attempts.__version__", OTHER_VERSION)
        monkeypatch.setattr("smartsim_bridge.client.talk.OLDEST_PROTOCOL", oldest)
        monkeypatch.setattr("smartsim_bridge.client.talk.PROTOCOL_VERSION", newest)

    return alter


def _refused(**keywords: object) -> tuple[VersionMismatch, float]:
    began = time.monotonic()
    with pytest.raises(VersionMismatch) as refused:
        init_command_server(**{"timeout": SECONDS, **keywords})  # type: ignore[arg-type]
    return refused.value, time.monotonic() - began


# --- they do not fit ----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [NEXT, PREVIOUS])
@pytest.mark.parametrize("transport", ["local", "direct"])
def test_server_of_another_version_is_named_with_ours_and_a_remedy(
    transport: str,
    protocol: int,
    alter_servers: Alter,
    make_local_server: MakeLocalServer,
    figure: Figure,
) -> None:
    alter_servers(protocol, protocol)
    server = make_local_server()
    fault, seconds = _refused(transport=transport)
    assert f"Client {__version__} and server {OTHER_VERSION}" in fault.what
    assert f"protocol {protocol}-{protocol}" in fault.what
    assert f"{OLDEST_PROTOCOL}-{PROTOCOL_VERSION}" in fault.what
    assert "smartsim-bridge stop" in str(fault)
    assert seconds < SECONDS
    assert is_running(server.pid)
    figure(19, slowest_refusal_seconds=seconds)


@pytest.mark.parametrize("protocol", [NEXT, PREVIOUS])
@pytest.mark.parametrize("transport", ["local", "direct"])
def test_client_of_another_version_is_told_both_and_a_remedy(
    transport: str, protocol: int, alter_us: Alter, local_server: LocalServer, figure: Figure
) -> None:
    alter_us(protocol, protocol)
    fault, seconds = _refused(transport=transport)
    assert f"Client {OTHER_VERSION} and server {__version__}" in fault.what
    assert f"protocol {OLDEST_PROTOCOL}-{PROTOCOL_VERSION}" in fault.what
    assert f"{protocol}-{protocol}" in fault.what
    assert "smartsim-bridge stop" in str(fault)
    assert seconds < SECONDS
    assert is_running(local_server.pid)
    figure(19, slowest_refusal_seconds=seconds)


@pytest.mark.slow
@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio", "auto"])
def test_over_ssh_it_is_told_once_and_no_other_rung_is_tried(
    transport: str, make_head: MakeHead, alter_us: Alter, figure: Figure
) -> None:
    head = make_head()
    head.init(autostart=True).close()
    (server,) = head.server_pids()
    alter_us(NEXT, NEXT)
    fault, seconds = _refused(**head.keywords, autostart=True, transport=transport)
    assert f"Client {OTHER_VERSION} and server {__version__}" in fault.what
    assert head.server_pids() == [server]
    figure(19, slowest_refusal_over_ssh_seconds=seconds)


@pytest.mark.slow
def test_who_waits_is_told_when_another_version_takes_the_place_of_the_server(
    alter_servers: Alter,
    make_local_server: MakeLocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_local_server()
    with FlakyProxy(("127.0.0.1", server.port)) as proxy:
        state = proxied_state(server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        with server.init(transport="direct") as bridge:
            running = bridge.popen(["sleep", "600"])
            proxy.stall()
            server.process.kill()
            server.process.wait()
            os.kill(running.pid, signal.SIGKILL)  # nobody else would end it now
            alter_servers(NEXT, NEXT)
            other = make_local_server()
            proxied_state(other.state_dir, proxy, state)
            proxy.target = ("127.0.0.1", other.port)
            proxy.cut()
            proxy.resume()
            with pytest.raises(VersionMismatch, match=OTHER_VERSION):
                running.wait(SECONDS)
            with pytest.raises(VersionMismatch, match=OTHER_VERSION):
                bridge.run(["true"])


# --- they do fit --------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["local", "direct"])
def test_server_of_the_next_version_that_knows_ours_serves_us(
    transport: str, alter_servers: Alter, make_local_server: MakeLocalServer
) -> None:
    alter_servers(OLDEST_PROTOCOL, NEXT)
    with make_local_server().init(transport=transport) as bridge:
        assert bridge.run(["echo", "served"]).stdout == "served\n"
        assert bridge.status().version == OTHER_VERSION


@pytest.mark.parametrize("transport", ["local", "direct"])
def test_client_of_the_next_version_that_knows_ours_is_served(
    transport: str, alter_us: Alter, local_server: LocalServer
) -> None:
    alter_us(OLDEST_PROTOCOL, NEXT)
    with local_server.init(transport=transport) as bridge:
        assert bridge.run(["echo", "served"]).stdout == "served\n"
        assert bridge.status().version == __version__


# --- the remedy ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, PREVIOUS, PROTOCOL_VERSION, NEXT, 10**6])
def test_wish_to_stop_is_understood_from_a_client_of_any_version(
    protocol: int, local_server: LocalServer
) -> None:
    async def wish() -> None:
        link = await connect_unix(local_server.beacon.socket)
        link.send(Hello(protocol, protocol, OTHER_VERSION, "5" * 32, "stop"))
        answer = await link.receive()
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.version) == ("stopping", __version__)
        await link.close()

    run(wish(), SECONDS)
    assert local_server.process.wait(SECONDS) == 0


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [NEXT, PREVIOUS])
def test_command_line_stops_a_server_of_another_version_with_its_commands(
    protocol: int, alter_servers: Alter, make_local_server: MakeLocalServer
) -> None:
    alter_servers(protocol, protocol)
    server = make_local_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smartsim_bridge.client.talk.OLDEST_PROTOCOL", protocol)
        patch.setattr("smartsim_bridge.client.talk.PROTOCOL_VERSION", protocol)
        pid = server.init(transport="local").popen(["sleep", "600"], keep=True).pid
    words = [*PROGRAM, "stop"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert OTHER_VERSION in done.stdout + done.stderr
    assert server.process.wait(SECONDS) == 0
    wait_until(lambda: not is_running(pid), SECONDS)
