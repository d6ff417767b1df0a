"""Fixtures for shims."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer, MakeLocalServer

from .installed import SQUEUE, Installed


@pytest.fixture
def queueing_head(
    make_local_server: MakeLocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LocalServer:
    """A head on this host, whose squeue is one of ours."""
    commands = tmp_path / "head"
    commands.mkdir()
    squeue = commands / "squeue"
    squeue.write_text(SQUEUE, "utf-8")
    squeue.chmod(0o755)
    with monkeypatch.context() as there:
        there.setenv("PATH", f"{commands}:/usr/bin:/bin")
        return make_local_server()


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
