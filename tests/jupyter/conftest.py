"""One kernel and one server on this host for all tests of a file; each has its own bridge."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.heads import FORGOTTEN
from tests.support.local_server import LocalServer, short_directory
from tests.support.notebook import Notebook, running_notebook


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with short_directory("jupyter") as directory, LocalServer(directory) as running:
        yield running


@pytest.fixture(scope="module")
def near_side(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who finds that server and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FORGOTTEN)}
    home = tmp_path_factory.mktemp("home")
    return {**kept, "HOME": str(home), "SMARTSIM_BRIDGE_STATE_DIR": str(server.state_dir)}


@pytest.fixture(scope="module")
def kernel(near_side: dict[str, str]) -> Iterator[Notebook]:
    with running_notebook(near_side) as notebook:
        notebook.execute("%load_ext smartsim_bridge")
        yield notebook


@pytest.fixture
def notebook(kernel: Notebook) -> Iterator[Notebook]:
    """With a bridge, called `bridge`."""
    assert not kernel.execute("bridge = %bridge --transport local").error
    yield kernel
    kernel.execute("%bridge --close")
