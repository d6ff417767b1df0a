"""One server on this host for all tests of the blocking face; each test has its own bridge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from tests.support.heads import move_in
from tests.support.local_server import LocalServer, short_directory


@pytest.fixture(scope="session")
def shared_server() -> Iterator[LocalServer]:
    with short_directory("client") as directory, LocalServer(directory) as server:
        yield server


@pytest.fixture
def server(
    shared_server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> LocalServer:
    """What init_command_server() finds, here and in processes that the test starts."""
    home = move_in(monkeypatch, tmp_path / "home")
    assert not list(home.iterdir())
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(shared_server.state_dir))
    return shared_server


@pytest.fixture(params=["local", "direct"])
def bridge(request: pytest.FixtureRequest, server: LocalServer) -> Iterator[Bridge]:
    made = server.init(transport=request.param)
    yield made
    made.close()
