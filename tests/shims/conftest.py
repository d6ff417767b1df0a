"""Fixtures for shims: heads on this host, and what is installed here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.shims import search_path
from smartsim_bridge.shims.wire import SOCKET_VARIABLE
from tests.support.heads import move_in
from tests.support.local_server import LocalServer, server_that_finds, short_directory
from tests.support.scheduler import make_scheduler

from .installed import SQUEUE, Installed


class Session(Protocol):
    def __call__(self, **keywords: Any) -> Bridge: ...


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """Where the head's programs lie, and the state of its server."""
    with short_directory("shims") as directory:
        make_scheduler(directory / "bin")
        yield directory


@pytest.fixture(scope="module")
def scheduler(site: Path) -> Path:
    """The directory of the head's own programs."""
    return site / "bin"


@pytest.fixture(scope="module")
def head(site: Path) -> Iterator[LocalServer]:
    path = f"{site / 'bin'}:{os.environ['PATH']}"
    with server_that_finds(path, site / "state") as server:
        yield server


@pytest.fixture
def session(
    head: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Session]:
    """Makes bridges with shims; they are closed, and PATH is as it was, when the test ends."""
    move_in(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(head.state_dir))
    # Whatever bridges other tests of this process have open.
    monkeypatch.setattr(search_path, "_entries", [])
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    path = os.environ["PATH"]
    made: list[Bridge] = []

    def make(**keywords: Any) -> Bridge:
        made.append(head.init(**{"transport": "local", **keywords}))
        return made[-1]

    yield make
    for bridge in made:
        bridge.close()
    assert os.environ["PATH"] == path


@pytest.fixture(scope="module")
def small_head() -> Iterator[LocalServer]:
    """A head on this host, whose only command is a squeue of ours."""
    with short_directory("shims") as directory:
        commands = directory / "bin"
        commands.mkdir()
        squeue = commands / "squeue"
        squeue.write_text(SQUEUE, "utf-8")
        squeue.chmod(0o755)
        (commands / "sleep").symlink_to("/bin/sleep")  # what our squeue needs
        with server_that_finds(str(commands), directory / "state") as server:
            yield server


@pytest.fixture
def queueing_head(
    small_head: LocalServer, near_home: Path, monkeypatch: pytest.MonkeyPatch
) -> LocalServer:
    """It, and a home from where it is found."""
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(small_head.state_dir))
    return small_head


@pytest.fixture
def installed(queueing_head: LocalServer, tmp_path: Path) -> Iterator[Installed]:
    """Shims of it that are installed for good."""
    found = Installed(tmp_path / "shims")
    try:
        done = found.install()
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.clean()
