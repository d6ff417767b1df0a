"""Which rung holds under which rules of a site, how soon, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.near_side import SOON, Outcome

pytestmark = pytest.mark.cluster


def reasons(outcome: Outcome) -> dict[str, str]:
    """Why each rung that did not hold did not."""
    assert outcome.status is not None, outcome.error
    return {rung["name"]: rung["reason"] for rung in outcome.status["rungs"] if not rung["held"]}


def start(cluster: Cluster) -> Outcome:
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert outcome.status is not None, outcome.error
    return outcome


@pytest.mark.parametrize(
    ("port", "user", "transport"),
    [
        (22, "alice", "tunnel"),
        (2200, "alice", "stdio"),
        (2201, "alice", "tunnel"),
        (2202, "alice", "stdio"),
        (22, "nofwd", "stdio"),
    ],
)
def test_from_a_laptop_the_right_rung_is_up_soon(
    cluster: Cluster, port: int, user: str, transport: str
) -> None:
    outcome = cluster.near("laptop", user).connect(
        addr=f"login1:{port}", autostart=True, run=[["squeue"]]
    )
    assert outcome.transport == transport
    assert "JOBID" in outcome.completed[0]["stdout"]
    assert outcome.seconds < SOON
    if transport == "stdio":
        assert "forward" in reasons(outcome)["tunnel"]
        assert "direct" in reasons(outcome)


def test_a_head_without_pyzmq_serves_by_stdio(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login3", autostart=True, run=[["squeue"]]
    )
    assert outcome.transport == "stdio"
    assert "JOBID" in outcome.completed[0]["stdout"]
    assert outcome.seconds < SOON
    assert "no ZMQ" in reasons(outcome)["tunnel"]


@pytest.mark.parametrize("way", ["keyword", "ssh_config"])
def test_from_outside_it_goes_through_the_gateway(cluster: Cluster, way: str) -> None:
    keywords: dict[str, Any] = {"jump": "gateway"} if way == "keyword" else {}
    if way == "ssh_config":
        config = cluster.host("remote").path("/home/alice/.ssh/config")
        config.write_text("Host login1\n  ProxyJump gateway\n", encoding="ascii")
    outcome = cluster.near("remote", "alice").connect(
        addr="login1", autostart=True, run=[["squeue"]], **keywords
    )
    assert outcome.transport == "tunnel"
    assert "JOBID" in outcome.completed[0]["stdout"]
    assert outcome.seconds < SOON


@pytest.mark.parametrize("reject", [False, True])
def test_where_neither_tunnel_nor_port_is_open_stdio_holds_soon(
    cluster: Cluster, reject: bool
) -> None:
    start(cluster)
    cluster.firewall.strict(reject=reject)
    outcome = cluster.near("compute1", "alice").connect(addr="login1:2200")

    assert outcome.transport == "stdio"
    assert outcome.seconds < SOON
    assert "10.77." in reasons(outcome)["direct"]


def test_a_compute_node_with_an_open_port_needs_no_login(cluster: Cluster) -> None:
    pid = start(cluster).status["server_pid"]  # type: ignore[index]
    cluster.firewall.open()
    before = logins(cluster)
    outcome = cluster.near("compute1", "alice").connect(addr="login1", run=[["hostname"]])

    assert outcome.transport == "direct"
    assert outcome.status is not None
    assert outcome.status["server_pid"] == pid
    assert outcome.completed[0]["stdout"] == "login1\n"
    assert logins(cluster) == before


def test_a_compute_node_with_the_port_closed_takes_the_tunnel(cluster: Cluster) -> None:
    start(cluster)
    outcome = cluster.near("compute1", "alice").connect(addr="login1")

    assert outcome.transport == "tunnel"
    assert outcome.seconds < SOON
    assert "10.77." in reasons(outcome)["direct"]


def test_a_port_that_the_head_itself_drops_does_not_eat_the_time(cluster: Cluster) -> None:
    """The forward is accepted by nobody and refused by nobody."""
    started = start(cluster)
    head = cluster.host("login1")
    head.run("nft", "add table inet stalls { chain in { type filter hook input priority -10; "
             "tcp dport 1024-65535 tcp flags & (syn | ack) == syn drop; }; }")  # fmt: skip
    try:
        outcome = cluster.near("laptop", "alice").connect(addr="login1")
    finally:
        head.run("nft", "delete", "table", "inet", "stalls")

    assert outcome.transport == "stdio"
    assert outcome.status is not None
    assert started.status is not None
    assert outcome.status["server_pid"] == started.status["server_pid"]
    assert outcome.seconds < SOON
    assert reasons(outcome)["tunnel"]


def test_a_tunnel_in_which_the_handshake_stalls_does_not_eat_the_time(cluster: Cluster) -> None:
    start(cluster)
    head = cluster.host("login1")
    head.run("nft", "add table inet stalls { chain in { type filter hook input priority -10; "
             "iif lo tcp dport 1024-65535 tcp flags & psh == psh drop; }; }")  # fmt: skip
    try:
        outcome = cluster.near("laptop", "alice").connect(addr="login1")
    finally:
        head.run("nft", "delete", "table", "inet", "stalls")

    assert outcome.transport == "stdio"
    assert outcome.seconds < SOON
    assert "says nothing" in reasons(outcome)["tunnel"]


def test_a_frozen_server_is_told_with_its_pid_and_never_doubled(cluster: Cluster) -> None:
    status = start(cluster).status
    assert status is not None
    head, pid = cluster.host("login1"), str(status["server_pid"])
    head.run("kill", "-STOP", pid)
    try:
        outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    finally:
        head.run("kill", "-CONT", pid)

    assert outcome.error is not None
    assert outcome.error["kind"] == "PeerSilent"
    assert f"pid {pid}" in outcome.error["what"]
    assert "kill -CONT" in outcome.error["advice"]
    assert outcome.seconds < SOON
    again = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert again.status is not None
    assert str(again.status["server_pid"]) == pid


def logins(cluster: Cluster) -> int:
    heads = (cluster.host(name) for name in ("login1", "login2", "login3"))
    return sum(head.sshd_log().count("Accepted ") for head in heads)
