from __future__ import annotations

from pathlib import Path

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import Head


@pytest.fixture
def head(tmp_path: Path) -> Head:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    return Head(home, programs)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(60)


@pytest.fixture
def journey() -> Journey:
    return Journey("me@login1")
