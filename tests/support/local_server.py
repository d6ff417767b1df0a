"""A server on this host, started by hand as in a fixed deployment, in a state directory of its own.

The near side's environment names that directory, so that a client finds it, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.protocol.beacon import Beacon

from .heads import servers_in

__all__ = ["LocalServer", "MakeLocalServer", "local_server", "make_local_server"]

SCRIPT = Path(__file__).parents[2] / "scripts" / "start_cmd_server.py"
END_SECONDS = 60.0


class MakeLocalServer(Protocol):
    def __call__(self, *options: str) -> LocalServer: ...


class LocalServer:
    """Runs with the block."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.state_dir = state_dir
        self._bridges = ExitStack()
        self._command = [
            *(sys.executable, str(SCRIPT), "--state-dir", str(state_dir)),
            *(options or ("--port", "0")),
        ]

    def __enter__(self) -> LocalServer:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if "stop it with" in line:
                return self
        raise AssertionError(f"no server: {self.said} {self.process.communicate()[1]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bridges.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def beacon(self) -> Beacon:
        (found,) = servers_in(self.state_dir)
        return found

    @property
    def port(self) -> int:
        return self.beacon.ports[0]

    def init(self, **keywords: Any) -> Bridge:
        """A bridge to it that is closed with the server."""
        return self._bridges.enter_context(init_command_server(**{"timeout": 60.0, **keywords}))


@contextmanager
def short_directory(purpose: str) -> Iterator[Path]:
    """A new directory whose path leaves room for the names of sockets."""
    directory = Path(tempfile.mkdtemp(prefix=f"ssb-{purpose}-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def server_that_finds(path: str, state_dir: Path) -> Iterator[LocalServer]:
    """A server that looks for its commands along `path`."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            server = stack.enter_context(LocalServer(state_dir))
        yield server


@pytest.fixture
def make_local_server(
    near_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeLocalServer]:
    """Servers with one new state directory; they end with the test."""
    with short_directory("state") as state_dir, ExitStack() as stack:
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state_dir))
        yield lambda *options: stack.enter_context(LocalServer(state_dir, *options))


@pytest.fixture
def local_server(make_local_server: MakeLocalServer) -> LocalServer:
    """One with any free port."""
    return make_local_server()
