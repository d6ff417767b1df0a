"""Several heads, one alias, one home: one server, found from everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.near_side import SOON, Outcome
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

HEADS = ("login1", "login3")  # those that `login` leads to, in turns

_MANY = """
import json, sys
from smartsim_bridge import init_command_server
for _ in range(int(sys.argv[1])):
    with init_command_server("login", autostart=True) as bridge:
        status = bridge.status()
        said = bridge.run(["hostname"]).stdout.strip()
        landed = [stage.detail for stage in status.stages if stage.name == "probe"]
        row = [status.server_host, status.server_pid, said, status.transport, landed[0]]
        print(json.dumps(row))
"""

_REPLACE = """
from smartsim_bridge import init_command_server
with init_command_server("login") as bridge:
    print(bridge.replace_server().server_pid)
"""

_FOLLOW = """
import sys
from smartsim_bridge import init_command_server
bridge = init_command_server("login")
line = "echo begun; until [ -e go-on ]; do sleep 0.05; done; echo done"
command = bridge.popen(["sh", "-c", line], text=True, cwd="/home/alice")
assert command.stdout.readline() == "begun\\n"
print("go", flush=True)
sys.stdin.readline()
print(command.stdout.read().strip(), command.wait(), flush=True)
status = bridge.status()
print(status.reconnects > 0, status.server_pid)
bridge.close()
"""


def servers(cluster: Cluster) -> dict[str, list[int]]:
    """Pids of server processes per head, whatever beacons say."""
    return {name: pids(cluster, name, "-f", " serve ") for name in HEADS}


def pids(cluster: Cluster, name: str, *pattern: str) -> list[int]:
    """alice's processes on that head."""
    said = cluster.host(name).run("pgrep", "-u", "alice", *pattern, check=False).stdout
    return [int(pid) for pid in said.split()]


def everywhere(cluster: Cluster) -> list[int]:
    """The same, in one list."""
    return [pid for pids in servers(cluster).values() for pid in pids]


def start_through_the_alias(cluster: Cluster, host: str) -> dict[str, Any]:
    """A server on that head, started as `login`."""
    status = by_way_of(cluster, host, autostart=True).status
    assert status is not None
    assert status["server_host"] == host
    return status


def by_way_of(cluster: Cluster, host: str, **keywords: Any) -> Outcome:
    """What a connect through the alias comes to when it leads to that head."""
    cluster.firewall.turn_to(host)
    before = {name: logins(cluster, name) for name in HEADS}
    outcome = cluster.near("laptop", "alice").connect(addr="login", **keywords)
    assert [name for name in HEADS if logins(cluster, name) > before[name]] == [host]
    return outcome


def logins(cluster: Cluster, name: str) -> int:
    """From outside; a step from head to head is none of them."""
    laptop = cluster.host("laptop").address
    lines = cluster.host(name).sshd_log().splitlines()
    return sum("Accepted " in line and f"from {laptop} " in line for line in lines)


@pytest.mark.parametrize(
    ("first", "way", "count"), [("login1", "tunnel", 20), ("login3", "stdio", 4)]
)
def test_twenty_connects_through_the_alias_reach_one_server(
    cluster: Cluster, first: str, way: str, count: int
) -> None:
    """login3 has no pyzmq: its server is reached by stdio, one step further."""
    status = start_through_the_alias(cluster, first)
    if way == "tunnel":
        cluster.firewall.open()
    said = cluster.near("laptop", "alice").python(_MANY, str(count), timeout=120).stdout
    answers = [json.loads(line) for line in said.splitlines()]

    assert len(answers) == count
    assert {tuple(answer[:4]) for answer in answers} == {(first, status["server_pid"], first, way)}
    assert {answer[4].partition("@")[2].partition(",")[0] for answer in answers} == set(HEADS)
    assert everywhere(cluster) == [status["server_pid"]]
    for name in HEADS:  # no step from head to head outlives its link
        wait_until(lambda name=name: not pids(cluster, name, "-x", "ssh"))  # type: ignore[misc]


@pytest.mark.parametrize("ssh", ["paramiko", "openssh"])
def test_the_tunnel_leads_on_to_the_other_head(cluster: Cluster, ssh: str) -> None:
    start_through_the_alias(cluster, "login1")
    cluster.firewall.open()
    outcome = by_way_of(cluster, "login3", transport="tunnel", ssh=ssh)

    assert outcome.transport == "tunnel"
    assert outcome.status is not None
    assert outcome.status["rungs"][-1]["reason"] == "to login1"


def test_a_head_that_is_named_gets_a_server_of_its_own(cluster: Cluster) -> None:
    first = cluster.near("laptop", "alice").connect(addr="login1", autostart=True).status
    second = cluster.near("laptop", "alice").connect(addr="login3", autostart=True).status
    assert first is not None
    assert second is not None
    assert (first["server_host"], second["server_host"]) == ("login1", "login3")
    assert [one.partition(",")[0] for one in second["others"]] == ["login1"]

    # Where both have one, the login decides.
    for name in HEADS:
        status = by_way_of(cluster, name).status
        assert status is not None
        assert status["server_host"] == name


def test_after_two_first_connects_at_once_all_choose_the_older_server(cluster: Cluster) -> None:
    """Neither has seen the other's beacon."""
    laptop = cluster.near("laptop", "alice")
    first = start_through_the_alias(cluster, "login1")
    place = cluster.host("login1").path("/home/alice/.local/state/smartsim-bridge/servers")
    (beacon,) = place.glob("*.json")
    hidden = beacon.rename(beacon.with_suffix(".hidden"))
    assert start_through_the_alias(cluster, "login3")["others"] == []
    hidden.rename(beacon)

    for head in HEADS:
        outcome = by_way_of(cluster, head, run=[["hostname"]])
        assert outcome.status is not None
        assert outcome.status["server_pid"] == first["server_pid"]
        assert outcome.completed[0]["stdout"] == "login1\n"
        assert [one.partition(",")[0] for one in outcome.status["others"]] == ["login3"]
    # So it is on a compute node, which logs in nowhere.
    cluster.firewall.open()
    near = cluster.near("compute1", "alice").connect(addr="login", transport="direct")
    assert near.status is not None
    assert near.status["server_pid"] == first["server_pid"]
    # Each is ended in its turn.
    for head in HEADS:
        stopped = laptop.cli("stop", "--addr", "login")
        assert f"server on {head}" in stopped.stdout, stopped.stderr


def test_heads_that_cannot_reach_each_other_are_told_apart(cluster: Cluster) -> None:
    status = start_through_the_alias(cluster, "login1")
    cluster.firewall.cut("login1", "login3")
    assert by_way_of(cluster, "login1").status is not None
    refused = by_way_of(cluster, "login3")
    error = refused.error
    assert error is not None
    assert error["kind"] == "ServerElsewhere"
    assert f"runs on login1, pid {status['server_pid']}" in error["what"]
    for way in ("tunnel", "stdio"):
        assert f"{way} to login1: " in error["text"]
    assert 'addr="login1"' in error["advice"]
    assert refused.seconds < SOON

    started = by_way_of(cluster, "login3", autostart=True).status
    assert started is not None
    assert started["started"]
    assert started["server_host"] == "login3"
    assert [one.partition(",")[0] for one in started["others"]] == ["login1"]

    # From then on no time is lost with trying.
    stayed = by_way_of(cluster, "login3").status
    assert stayed is not None
    assert stayed["server_host"] == "login3"
    assert not [rung for rung in stayed["rungs"] if "login1" in rung["reason"]]


def test_a_crashed_head_costs_seconds_until_its_heartbeat_is_old(cluster: Cluster) -> None:
    start_through_the_alias(cluster, "login1")
    (pid,) = servers(cluster)["login1"]
    cluster.host("login1").run("kill", "-KILL", str(pid))
    outcome = by_way_of(cluster, "login3", autostart=True)
    assert outcome.status is not None
    assert outcome.seconds < SOON


def test_each_verb_works_from_the_other_head(cluster: Cluster) -> None:
    status = start_through_the_alias(cluster, "login1")
    cluster.firewall.open()
    laptop, pid = cluster.near("laptop", "alice"), f"pid {status['server_pid']}"
    kept = laptop.cli("run", "--addr", "login", "--detach", "--", "sleep", "100")
    assert kept.returncode == 0, kept.stderr
    for verb, words in {"status": pid, "ps": "sleep 100", "logs": f"serving as {pid}"}.items():
        cluster.firewall.turn_to("login3")
        assert words in laptop.cli(verb, "--addr", "login").stdout
    # From a head, too, and from a compute node.
    for host in ("login3", "compute1"):
        near = cluster.near(host, "alice")
        assert pid in near.cli("status", "--addr", "login1").stdout
    for head in HEADS:
        cluster.firewall.turn_to(head)
        assert laptop.python(_REPLACE).stdout == f"{status['server_pid']}\n"
    stopped = cluster.near("login3", "alice").cli("stop", "--addr", "login1")
    assert pid in stopped.stdout, stopped.stderr
    wait_until(lambda: not everywhere(cluster))  # it has said goodbye, and exits


def test_the_alias_ends_the_server_whichever_head_it_leads_to(cluster: Cluster) -> None:
    for first, other in (HEADS, HEADS[::-1]):
        start_through_the_alias(cluster, first)
        cluster.firewall.turn_to(other)
        stopped = cluster.near("laptop", "alice").cli("stop", "--addr", "login")
        assert f"server on {first}" in stopped.stdout, stopped.stderr
        wait_until(lambda: not everywhere(cluster))  # it has said goodbye, and exits


def test_where_none_runs_the_others_are_named(cluster: Cluster) -> None:
    status = start_through_the_alias(cluster, "login1")
    stopped = cluster.near("login3", "alice").cli("stop")
    assert f"login1 (pid {status['server_pid']})" in stopped.stderr
    stopped = cluster.near("laptop", "alice").cli("stop", "--addr", "login3")
    assert f"login1 (pid {status['server_pid']})" in stopped.stderr
    assert servers(cluster)["login1"] == [status["server_pid"]]


def test_a_compute_node_reaches_the_server_of_the_alias_without_a_login(cluster: Cluster) -> None:
    status = start_through_the_alias(cluster, "login1")
    cluster.firewall.open()
    before = [cluster.host(name).sshd_log().count("Accepted ") for name in HEADS]
    outcome = cluster.near("compute1", "alice").connect(addr="login", run=[["hostname"]])

    assert outcome.transport == "direct"
    assert outcome.status is not None
    assert outcome.status["server_pid"] == status["server_pid"]
    assert outcome.completed[0]["stdout"] == "login1\n"
    assert [cluster.host(name).sshd_log().count("Accepted ") for name in HEADS] == before


def test_a_server_on_a_compute_node_is_no_stand_in_for_a_head(cluster: Cluster) -> None:
    """It shares the home, and has no scheduler."""
    there = cluster.near("compute1", "alice").connect(addr="127.0.0.1", autostart=True).status
    assert there is not None
    status = cluster.near("laptop", "alice").connect(addr="login", autostart=True).status
    assert status is not None
    assert there["server_host"] == "compute1"
    assert status["server_host"] in HEADS
    assert [one.partition(",")[0] for one in status["others"]] == ["compute1"]


def test_after_a_reboot_a_new_server_tells_what_was_lost(cluster: Cluster) -> None:
    laptop = cluster.near("laptop", "alice")
    first = laptop.connect(addr="login1", autostart=True).status
    assert first is not None
    kept = laptop.cli("run", "--addr", "login1", "--detach", "--", "sleep", "100")
    assert kept.returncode == 0, kept.stderr
    cluster.host("login1").reboot()
    place = "/home/alice/.local/state/smartsim-bridge/servers"
    assert len(list(cluster.host("login3").path(place).glob("*.json"))) == 1

    outcome = laptop.connect(addr="login1", autostart=True)
    again = outcome.status
    assert again is not None
    assert again["started"]
    assert outcome.seconds < SOON
    left = [
        json.loads(one.read_text()) for one in cluster.host("login3").path(place).glob("*.json")
    ]
    assert [one["pid"] for one in left] == [again["server_pid"]]
    said = laptop.cli("ps", "--all", "--addr", "login1").stdout
    assert "sleep 100" in said
    assert "unknown" in said


def test_a_session_waits_for_the_server_that_has_its_commands(cluster: Cluster) -> None:
    """Coming back by the other head it must neither start a server there nor give up."""
    status = start_through_the_alias(cluster, "login1")
    near = cluster.near("laptop", "alice")
    # From login1, so that the way back leads to the other head first.
    cluster.firewall.turn_to("login1")
    process = near.host.popen(sys.executable, "-c", _FOLLOW, user="alice", stdin=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "go\n"
        cluster.firewall.cut("login1", "login3")
        for name in HEADS:
            cluster.host(name).run("pkill", "-u", "alice", "-x", "sshd", check=False)
        # What it says from here on has no link to come by but another one.
        cluster.host("login1").run("touch", "go-on", user="alice")
        said, _ = process.communicate("\n", timeout=120)
        assert said.split() == ["done", "0", "True", str(status["server_pid"])]
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert everywhere(cluster) == [status["server_pid"]]
