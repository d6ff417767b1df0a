"""Another scheduler than Slurm: Grid Engine's commands, from hosts that do not have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.grid_engine import open_grid_engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def grid_engine(running_cluster: Cluster) -> Iterator[None]:
    with open_grid_engine(running_cluster):
        yield


def test_a_job_runs_and_is_accounted_for(cluster: Cluster) -> None:
    login1 = cluster.host("login1")
    submit = ("qsub", "-terse", "-cwd", "-sync", "y", "-o", "out", "-j", "y")
    job = login1.run(*submit, input="hostname\n", user="alice").stdout.split()[0]
    assert login1.path("/home/alice/out").read_text().startswith("compute")
    wait_until(lambda: "exit_status  0" in login1.run("qacct", "-j", job, check=False).stdout)


def test_only_the_head_has_its_commands(cluster: Cluster) -> None:
    for name in ("compute1", "laptop", "login3"):
        found = cluster.host(name).run("sh", "-c", "command -v qsub qstat", check=False)
        assert found.stdout == ""
