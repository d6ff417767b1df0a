"""The same rungs hold where each round trip takes its time, and packets get lost."""

from __future__ import annotations

import sys

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.site import CLONE
from tests.cluster.slow_cable import Way

pytestmark = pytest.mark.cluster

SOON = 10.0  # seconds for the right rung to be up; 5 on a machine that nobody else uses
CONTINENT = Way(delay=0.05)
WORLD = Way(delay=0.15)

TIMEOUT = 2.0
CONNECT = f"""
import time
from smartsim_bridge import CommandServerError, init_command_server
began = time.monotonic()
try:
    init_command_server(
        addr="login1", ssh="paramiko", timeout={TIMEOUT},
        on_stage=lambda stage: print(stage.name, flush=True),
    )
except CommandServerError as error:
    print(type(error).__name__, time.monotonic() - began, flush=True)
"""


def start(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert outcome.status is not None, outcome.error


def test_a_hundred_milliseconds_away_the_right_rung_is_up_soon(cluster: Cluster) -> None:
    start(cluster)
    near = cluster.near("laptop", "alice")
    with cluster.far("laptop", CONTINENT):
        outcomes = [
            near.connect(addr="login1", ssh="paramiko"),
            near.connect(addr="login1:2200", ssh="openssh"),  # no forwarding there
        ]

    assert [outcome.transport for outcome in outcomes] == ["tunnel", "stdio"]
    assert max(outcome.seconds for outcome in outcomes) < SOON


def test_a_port_at_the_other_end_of_the_world_has_time_for_its_handshake(cluster: Cluster) -> None:
    start(cluster)
    cluster.firewall.open()
    with cluster.far("compute1", WORLD):
        outcome = cluster.near("compute1", "alice").connect(addr="login1")

    assert outcome.transport == "direct"
    assert outcome.seconds < SOON


def test_a_way_that_breaks_after_the_login_costs_no_more_than_the_timeout(
    cluster: Cluster,
) -> None:
    start(cluster)
    near = cluster.near("laptop", "alice")
    connecting = near.host.popen(
        *(sys.executable, "-c", CONNECT), user=near.user, env={"PYTHONPATH": str(CLONE)}
    )
    assert connecting.stdout is not None
    with connecting, cluster.far("laptop", CONTINENT):
        while connecting.stdout.readline() != "authenticate\n":
            assert connecting.poll() is None
        cluster.firewall.cut("laptop", "login1")
        said = connecting.stdout.read()
    cluster.firewall.heal()

    assert "SshFailed" in said
    assert float(said.split()[-1]) < TIMEOUT + 1
    assert near.connect(addr="login1").transport == "tunnel"
