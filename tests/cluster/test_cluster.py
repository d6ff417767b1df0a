"""What the other tests here rely on: that the cluster is one."""

from __future__ import annotations

import pytest

from .cluster import Cluster

pytestmark = pytest.mark.cluster


def test_a_job_runs_on_two_nodes(cluster: Cluster) -> None:
    done = cluster.host("login1").run("srun", "-N2", "hostname", user="alice")
    assert sorted(done.stdout.split()) == ["compute1", "compute2"]


def test_the_bridge_reaches_the_scheduler_from_the_laptop(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", autostart=True, run=[["squeue"]]
    )
    assert outcome.error is None
    assert outcome.completed[0]["stdout"].split()[0] == "JOBID"
