"""init_command_server against what real head nodes are like, and squeue over it.

Each account and each port is odd in its own way (accounts.py, host_init.py); from wherever the
script is, the right rung must hold, or the error must say why none can.
"""

from __future__ import annotations

from typing import Any

import pytest

import smartsim_bridge.errors

from .accounts import TOTP_SECRET
from .cluster import Cluster
from .codes import one_time_code
from .near_side import Outcome

pytestmark = pytest.mark.cluster

# A person waits for this: far above what it takes, far below what feels broken.
TIMEOUT = 5.0
# sloth's shell takes three seconds before it does anything, and may do so twice.
SLOTH_TIMEOUT = 20.0

SQUEUE = [["squeue"]]

PLAIN_OR_NOISY = ("alice", "tess", "noisy", "fiona", "zoe", "kurt", "dora", "force")
PORTS = {2200: "stdio", 2201: "tunnel", 2202: "stdio"}


def assert_squeue(outcome: Outcome, transport: str) -> None:
    assert outcome.error is None, outcome.error
    (squeue,) = outcome.completed
    assert squeue["returncode"] == 0, squeue
    assert squeue["stdout"].split()[:3] == ["JOBID", "PARTITION", "NAME"], squeue
    print(f"{outcome.transport} in {outcome.seconds:.2f} s, asked {outcome.asked}")
    assert outcome.transport == transport


def assert_fails(outcome: Outcome, family: str) -> None:
    assert outcome.error is not None, outcome.status
    print(outcome.error["text"])
    kind = getattr(smartsim_bridge.errors, outcome.error["kind"])
    assert issubclass(kind, getattr(smartsim_bridge.errors, family)), outcome.error


# --- accounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user", ["alice", "tess", "noisy", "fiona", "zoe", "kurt", "dora", "force"]
)
def test_any_login_shell_and_any_noise_will_do(cluster: Cluster, user: str) -> None:
    outcome = cluster.near("laptop", user).connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "tunnel")


def test_a_slow_rc_file_costs_its_time_only(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "sloth").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=SLOTH_TIMEOUT
    )
    assert_squeue(outcome, "tunnel")


def test_keyboard_interactive_asks_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "kim").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT, answers=[("assword", "kim-pw")]
    )
    assert_squeue(outcome, "tunnel")
    assert len(outcome.asked) == 1


def test_key_then_password_then_code_ask_once_each(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "mfa").connect(
        addr="login1",
        autostart=True,
        run=SQUEUE,
        timeout=TIMEOUT,
        answers=[("assword", "mfa-pw"), ("code", one_time_code(TOTP_SECRET))],
    )
    assert_squeue(outcome, "tunnel")
    assert len(outcome.asked) == 2


def test_forbidden_forwarding_leaves_stdio(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "nofwd").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "stdio")


@pytest.mark.parametrize("user", ["jail", "nosh"])
def test_an_account_that_runs_no_command_is_an_error(cluster: Cluster, user: str) -> None:
    outcome = cluster.near("laptop", user).connect(addr="login1", autostart=True, timeout=TIMEOUT)
    assert_fails(outcome, "BootstrapFailed")


# --- heads and ports --------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "transport"), PORTS.items())
def test_what_a_port_forbids_chooses_the_rung(cluster: Cluster, port: int, transport: str) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", ssh_port=port, autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, transport)


def test_a_head_without_python_is_an_error(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login2", autostart=True, timeout=TIMEOUT
    )
    assert_fails(outcome, "NoUsablePython")


def test_a_head_without_pyzmq_serves_by_stdio(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login3", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "stdio")


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["keyword", "ssh_config"])
def test_from_outside_it_goes_through_the_gateway(cluster: Cluster, way: str) -> None:
    keywords: dict[str, Any] = {"jump": "gateway"} if way == "keyword" else {}
    if way == "ssh_config":
        config = cluster.host("remote").path("/home/alice/.ssh/config")
        config.write_text("Host login1\n  ProxyJump gateway\n", encoding="ascii")
    outcome = cluster.near("remote", "alice").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT, **keywords
    )
    assert_squeue(outcome, "tunnel")


def test_from_a_node_a_running_server_is_reached_directly(cluster: Cluster) -> None:
    start_from_laptop(cluster)
    cluster.firewall.open()
    logins = count_logins(cluster)
    outcome = cluster.near("compute1", "alice").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "direct")
    assert count_logins(cluster) == logins


def test_from_a_node_behind_a_firewall_it_tunnels(cluster: Cluster) -> None:
    start_from_laptop(cluster)
    outcome = cluster.near("compute1", "alice").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "tunnel")


def test_from_a_node_without_forwarding_it_is_stdio(cluster: Cluster) -> None:
    outcome = cluster.near("compute1", "nofwd").connect(
        addr="login1", autostart=True, run=SQUEUE, timeout=TIMEOUT
    )
    assert_squeue(outcome, "stdio")


def start_from_laptop(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert outcome.error is None, outcome.error


def count_logins(cluster: Cluster) -> int:
    return cluster.host("login1").sshd_log().count("Accepted ")
