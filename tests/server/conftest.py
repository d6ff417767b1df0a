from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Real servers in a state directory of their own."""
    servers = Fleet(tmp_path / "state")
    try:
        yield servers
    finally:
        servers.close()
