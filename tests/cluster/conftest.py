"""The fixture `cluster`: one site per test process, booted for the first test that asks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cluster import Cluster
from .needs import why_no_cluster


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    missing = why_no_cluster()
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(request: pytest.FixtureRequest, running_cluster: Cluster) -> Cluster:
    """A cluster on which nothing has happened yet."""
    # By the mark these tests are left out where they make no sense.
    assert request.node.get_closest_marker("cluster"), "pytestmark = pytest.mark.cluster is missing"
    running_cluster.reset()
    return running_cluster
