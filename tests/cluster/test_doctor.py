"""The doctor at a site: what it says of each head, port and account, and what it leaves."""

from __future__ import annotations

import json

import pytest

from smartsim_bridge.doctor.findings import CHECKS
from smartsim_bridge.doctor.trials import SURVIVOR_SECONDS
from tests.support.waiting import wait_until

from .cluster import Cluster

pytestmark = pytest.mark.cluster

Told = dict[str, tuple[str, str]]


def doctor(cluster: Cluster, host: str, user: str, *words: str) -> Told:
    """Check -> verdict and evidence; the exit status says whether one failed."""
    done = cluster.near(host, user).cli("doctor", *words, "--json")
    assert done.stderr == ""
    told = {
        one["name"]: (one["verdict"], one["evidence"])
        for one in json.loads(done.stdout)["findings"]
    }
    assert list(told) == list(CHECKS)
    assert done.returncode == int(failed(told) != [])
    return told


def failed(told: Told) -> list[str]:
    return [name for name, (verdict, _) in told.items() if verdict == "fail"]


def processes(cluster: Cluster, host: str, user: str) -> str:
    return cluster.host(host).run("ps", "-u", user, "-o", "args=", check=False).stdout


def test_from_the_laptop_a_head_is_fit_and_its_ports_are_dropped(cluster: Cluster) -> None:
    told = doctor(cluster, "laptop", "alice", "login1")
    assert failed(told) == []
    assert told["name"] == ("ok", cluster.host("login1").address)
    assert "known_hosts:" in told["host key"][1]
    assert "worked: publickey" in told["authentication"][1]
    assert "carried the banner" in told["forwarding"][1]
    assert "dropped" in told["direct port"][1]
    assert told["direct port"][0] == "ok"
    assert "outlived the logout" in told["background"][1]
    assert told["heads"][1] == "reached login1"
    assert told["scheduler"][1].startswith("Slurm: sbatch")
    assert told["sacct"][0] == "ok"
    # Nothing is left, and no server was started.  sshd itself may still be tidying up; what the
    # doctor has to end would end by itself only later.
    wait_until(lambda: not processes(cluster, "login1", "alice"), SURVIVOR_SECONDS / 2)
    home = cluster.host("login1").path("/home/alice")
    assert not (home / ".local").exists()
    assert list(home.glob(".smartsim-bridge-doctor-*")) == []


@pytest.mark.parametrize("port", ["2200", "2202"])
def test_a_port_without_forwarding_leaves_stdio(port: str, cluster: Cluster) -> None:
    cluster.firewall.strict(reject=True)
    told = doctor(cluster, "laptop", "alice", "login1", "--ssh-port", port)
    assert failed(told) == []
    assert told["forwarding"][0] == "warn"
    assert "reject" in told["direct port"][1]
    assert told["direct port"][0] == "warn"


def test_an_alias_of_two_heads_is_known_for_one(cluster: Cluster) -> None:
    cluster.firewall.strict(reject=True)
    told = doctor(cluster, "laptop", "alice", "login")
    assert failed(told) == []
    assert "login1" in told["heads"][1]
    assert "login3" in told["heads"][1] or "2 keys" in told["heads"][1]
    assert told["background"][0] == "skipped"
    assert "the second login came to" in told["background"][1]


def test_a_head_without_python_fails_in_that_alone(cluster: Cluster) -> None:
    told = doctor(cluster, "laptop", "alice", "login2")
    assert failed(told) == ["Python"]
    assert told["direct port"][0] == "skipped"
    assert "carried the banner" in told["forwarding"][1]


def test_from_a_compute_node_a_port_is_reached_where_the_site_allows_it(cluster: Cluster) -> None:
    cluster.firewall.open()
    told = doctor(cluster, "compute1", "alice", "login1")
    assert failed(told) == []
    assert "is reached from here" in told["direct port"][1]


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("jail", "This account may only transfer files"),
        ("nosh", "This account is currently not available"),
    ],
)
def test_an_account_without_a_shell_fails_there_in_the_words_of_the_host(
    user: str, words: str, cluster: Cluster
) -> None:
    told = doctor(cluster, "laptop", user, "login1")
    assert failed(told) == ["login shell"]
    assert words in told["login shell"][1]
    assert told["sacct"] == ("skipped", "not reached: login shell failed")


def test_an_account_that_wants_a_person_fails_where_there_is_none(cluster: Cluster) -> None:
    told = doctor(cluster, "laptop", "kim", "login1")
    assert failed(told) == ["authentication"]
    assert told["login"][0] == "skipped"


def test_a_noisy_csh_is_named_with_its_streams(cluster: Cluster) -> None:
    cluster.firewall.strict(reject=True)
    told = doctor(cluster, "laptop", "tess", "login1")
    assert failed(told) == []
    verdict, evidence = told["login shell"]
    assert verdict == "warn"
    assert evidence.startswith("/usr/bin/tcsh")
    assert "stdout" in evidence
    assert "stderr" in evidence


def test_a_server_on_another_head_is_found_through_the_alias(cluster: Cluster) -> None:
    cluster.firewall.strict(reject=True)
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True)
    assert outcome.status is not None
    told = doctor(cluster, "laptop", "alice", "login")
    assert f"pid {outcome.status['server_pid']} on login1" in told["server"][1]
