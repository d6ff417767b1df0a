"""A head whose only Python has no pyzmq, in a site without internet."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.head_python import HeadPython
from tests.support.wheels import Links, find_links

from .cluster import Cluster
from .test_heads import start_through_the_alias

pytestmark = pytest.mark.cluster

SQUEUE = [["squeue"]]
# What pip reads in the home of the user, and keeps there.
SHELF = "/home/alice/wheels"


@pytest.fixture(scope="module")
def links39(tmp_path_factory: pytest.TempPathFactory) -> Links:
    """A wheel for the Python of login3, from wherever pip gets what this project needs."""
    try:
        return find_links(HeadPython("", (3, 9), False), tmp_path_factory.mktemp("wheels"))
    except subprocess.CalledProcessError:
        reason = "pip finds no wheel of pyzmq for Python 3.9 here"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def shelf(cluster: Cluster, links39: Links) -> Mapping[str, str]:
    """The wheel, on the laptop, and the environment in which pip finds it there."""
    laptop = cluster.host("laptop")
    place = laptop.path(SHELF)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copy(links39.wheel, place)
    laptop.run("chown", "-R", "alice", SHELF)
    return {
        **links39.environment,
        "PIP_FIND_LINKS": SHELF,
        "XDG_CACHE_HOME": f"{SHELF}/cache",
    }


def sites(cluster: Cluster) -> list[Path]:
    return list(cluster.host("login3").path("/home/alice").glob(".local/state/*/far/pyzmq-*"))


def test_without_it_only_stdio_holds(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(addr="login3", autostart=True, run=SQUEUE)
    assert outcome.transport == "stdio"


def test_a_head_without_pyzmq_gets_it_and_squeue_goes_through_the_tunnel(
    cluster: Cluster, shelf: Mapping[str, str]
) -> None:
    alice = cluster.near("laptop", "alice")
    outcome = alice.connect(addr="login3", autostart=True, provision=True, run=SQUEUE, env=shelf)

    assert outcome.transport == "tunnel"
    assert outcome.status is not None
    assert outcome.status["server_zmq"]
    assert outcome.completed[0]["stdout"].split()[:2] == ["JOBID", "PARTITION"]
    (site,) = sites(cluster)
    assert site.name.startswith(f"pyzmq-{outcome.status['server_zmq']}-cp39")

    # The next one needs neither the keyword nor the wheel.
    again = alice.connect(addr="login3", run=SQUEUE)
    assert again.transport == "tunnel"


def test_a_compute_node_then_gets_there_directly(
    cluster: Cluster, shelf: Mapping[str, str]
) -> None:
    cluster.firewall.open()
    first = cluster.near("laptop", "alice").connect(
        addr="login3", autostart=True, provision=True, env=shelf
    )
    assert first.error is None
    outcome = cluster.near("compute1", "alice").connect(addr="login3", run=SQUEUE)
    assert outcome.transport == "direct"
    assert outcome.completed[0]["returncode"] == 0


def test_a_server_that_runs_without_gets_it_from_the_command_line(
    cluster: Cluster, shelf: Mapping[str, str]
) -> None:
    alice = cluster.near("laptop", "alice")
    before = alice.connect(addr="login3", autostart=True)
    assert before.transport == "stdio"
    done = alice.cli("start", "--replace", "--provision", "--addr", "login3", env=shelf)
    assert done.returncode == 0, done.stderr
    assert "with pyzmq 2" in done.stderr
    after = alice.connect(addr="login3", transport="tunnel", run=SQUEUE)
    assert after.error is None, after.error
    assert before.status is not None
    assert after.status is not None
    assert after.status["server_pid"] == before.status["server_pid"]


def test_from_another_head_it_is_not_brought_and_the_right_one_is_named(cluster: Cluster) -> None:
    """What fits a Python of login1 need not fit one of login3."""
    before = start_through_the_alias(cluster, "login3")
    alice = cluster.near("laptop", "alice")
    done = alice.cli("start", "--replace", "--provision", "--addr", "login")
    assert done.returncode == 255, done.stderr
    assert "login ended at login1" in done.stderr
    assert 'addr="login3"' in done.stderr
    after = alice.connect(addr="login3").status
    assert after is not None
    assert after["server_pid"] == before["server_pid"]
