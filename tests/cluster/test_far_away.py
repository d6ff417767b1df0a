"""The same rungs hold where each round trip takes its time, and packets get lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.near_side import SOON
from tests.cluster.site import CLONE
from tests.cluster.slow_cable import Way

pytestmark = pytest.mark.cluster

CONTINENT = Way(delay=0.05)
WORLD = Way(delay=0.15)

TIMEOUT = 6.0  # it must be enough for the login; what the test claims is that it ends there
LATE = 20.0  # for a process that is over its time, on a busy machine; TCP itself takes minutes
CONNECT = f"""
import sys, time
from smartsim_bridge import CommandServerError, init_command_server
def on_stage(stage):
    if stage.name == "authenticate":
        print("logged in", flush=True)
        sys.stdin.readline()
began = time.monotonic()
try:
    init_command_server(
        addr="login1", ssh="paramiko", timeout={TIMEOUT}, on_stage=on_stage
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
    with (
        cluster.far("laptop", CONTINENT),
        near.host.popen(
            *(sys.executable, "-c", CONNECT),
            user=near.user,
            env={"PYTHONPATH": str(CLONE)},
            stdin=subprocess.PIPE,
        ) as connecting,
    ):
        assert connecting.stdout is not None
        assert connecting.stdout.readline() == "logged in\n"
        cluster.firewall.cut("laptop", "login1")
        said, complained = connecting.communicate("\n", timeout=120)
    cluster.firewall.heal()

    assert "SshFailed" in said, complained
    assert float(said.split()[-1]) < TIMEOUT + LATE
    assert near.connect(addr="login1").transport == "tunnel"
