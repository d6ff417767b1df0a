"""This process's bridge: which one it is, and when there is none."""

from __future__ import annotations

import pytest

from smartsim_bridge import init_command_server, shutdown_command_server
from smartsim_bridge.current import current_bridge
from smartsim_bridge.errors import BridgeClosed, CommandServerError, NoServer
from tests.support.local_server import LocalServer, MakeLocalServer

SECONDS = 60.0


def test_the_bridge_made_last_is_the_current_one(server: LocalServer) -> None:
    with init_command_server() as first:
        assert current_bridge() is first
        with init_command_server() as second:
            assert current_bridge() is second


@pytest.mark.usefixtures("server")
def test_where_there_is_none_it_is_told() -> None:
    with pytest.raises(NoServer, match="init_command_server"):
        current_bridge()
    with pytest.raises(NoServer, match="init_command_server"):
        shutdown_command_server()


def test_an_init_that_fails_leaves_the_current_one(server: LocalServer) -> None:
    with init_command_server() as bridge:
        with pytest.raises(CommandServerError):
            init_command_server(port=1, timeout=5)
        assert current_bridge() is bridge
        assert bridge.run(["true"]).returncode == 0


def test_shutdown_means_the_current_one(
    make_local_server: MakeLocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartsim_bridge.current._current", None)
    server = make_local_server()
    bridge = init_command_server()
    shutdown_command_server()
    assert server.process.wait(SECONDS) == 0
    with pytest.raises(BridgeClosed):
        bridge.run(["true"])
    with pytest.raises(NoServer):
        shutdown_command_server()


def test_shutdown_of_another_bridge_leaves_the_current_one_current(
    make_local_server: MakeLocalServer,
) -> None:
    server = make_local_server()
    first, second = init_command_server(), init_command_server()
    shutdown_command_server(first)
    assert server.process.wait(SECONDS) == 0
    assert current_bridge() is second
    second.close()


def test_wrong_settings_open_nothing(server: LocalServer) -> None:
    with pytest.raises(ValueError, match="transport"):
        init_command_server(transport="carrier-pigeon")
