"""The same rungs hold where each round trip takes its time, and packets get lost."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.slow_cable import Way

pytestmark = pytest.mark.cluster

SOON = 5.0  # seconds for the right rung to be up
CONTINENT = Way(delay=0.05)
WORLD = Way(delay=0.15)


def start(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert outcome.status is not None, outcome.error


def test_a_hundred_milliseconds_away_the_right_rung_is_up_soon(cluster: Cluster) -> None:
    start(cluster)
    near = cluster.near("laptop", "alice")
    with cluster.far("laptop", CONTINENT):
        outcomes = [
            near.connect(addr="login1", ssh="paramiko"),
            near.connect(addr="login1", ssh="openssh"),
            near.connect(addr="login1:2200"),  # no forwarding there
        ]

    assert [outcome.transport for outcome in outcomes] == ["tunnel", "tunnel", "stdio"]
    assert max(outcome.seconds for outcome in outcomes) < SOON


def test_a_port_at_the_other_end_of_the_world_has_time_for_its_handshake(cluster: Cluster) -> None:
    start(cluster)
    cluster.firewall.open()
    with cluster.far("compute1", WORLD):
        outcome = cluster.near("compute1", "alice").connect(addr="login1")

    assert outcome.transport == "direct"
    assert outcome.seconds < SOON
