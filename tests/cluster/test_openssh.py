"""The system's ssh as the engine, on a site: each way to log in, each port that forbids."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from .accounts import ACCOUNTS, TOTP_SECRET
from .cluster import Cluster
from .codes import one_time_code
from .host import Host
from .near_side import Outcome

pytestmark = pytest.mark.cluster

ENGINE: dict[str, Any] = {"ssh": "openssh", "autostart": True}


def password(user: str) -> tuple[str, str]:
    return ("assword", ACCOUNTS[user].password)


def successes(host: Host, port: int = 22) -> int:
    return len(re.findall(r"^Accepted \S+ for ", host.sshd_log(port=port), re.MULTILINE))


def assert_up(outcome: Outcome, user: str) -> None:
    assert outcome.error is None, outcome.error["text"]
    assert outcome.completed[0]["stdout"] == f"{user}\n"
    assert outcome.status is not None
    details = {one["name"]: one["detail"] for one in outcome.status["stages"]}
    assert "system's ssh" in details["authenticate"] or "ControlMaster" in details["authenticate"]


@pytest.mark.parametrize("user", ["alice", "tess", "noisy"])
def test_a_key_logs_in_once_whatever_the_shell_is(user: str, cluster: Cluster) -> None:
    outcome = cluster.near("laptop", user).connect(
        addr="login1", run=[["id", "-un"], ["squeue"]], **ENGINE
    )
    assert_up(outcome, user)
    assert outcome.completed[1]["returncode"] == 0
    assert successes(cluster.host("login1")) == 1
    assert outcome.asked == []


def test_a_site_that_takes_dialogues_only_asks_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "kim").connect(
        addr="login1", answers=[password("kim")], run=[["id", "-un"]], **ENGINE
    )
    assert_up(outcome, "kim")
    assert len(outcome.asked) == 1
    assert successes(cluster.host("login1")) == 1


def test_key_password_and_code_are_one_login(cluster: Cluster) -> None:
    answers = [password("mfa"), ("erification code", one_time_code(TOTP_SECRET))]
    outcome = cluster.near("laptop", "mfa").connect(
        addr="login1", answers=answers, run=[["id", "-un"]], **ENGINE
    )
    assert_up(outcome, "mfa")
    assert len(outcome.asked) == 2
    assert successes(cluster.host("login1")) == 1


def test_a_full_runtime_directory_is_left(cluster: Cluster) -> None:
    laptop, full = cluster.host("laptop"), "/tmp/full"
    laptop.run("mkdir", full)
    laptop.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=700,uid=24001", "none", full)
    try:
        laptop.run("sh", "-c", f"cat /dev/zero >{full}/all 2>/dev/null || true")
        outcome = cluster.near("laptop", "alice").connect(
            addr="login1", run=[["id", "-un"]], env={"XDG_RUNTIME_DIR": full}, **ENGINE
        )
    finally:
        laptop.run("umount", full)
    assert_up(outcome, "alice")


def test_a_jump_host_is_passed(cluster: Cluster) -> None:
    outcome = cluster.near("remote", "alice").connect(
        addr="login1", jump="gateway", run=[["id", "-un"]], answers=[password("alice")], **ENGINE
    )
    assert_up(outcome, "alice")


@pytest.mark.parametrize(
    ("port", "transport"), [(2200, "stdio"), (2201, "tunnel"), (2202, "stdio")]
)
def test_what_a_port_forbids_is_got_round(port: int, transport: str, cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", ssh_port=port, run=[["id", "-un"]], **ENGINE
    )
    assert_up(outcome, "alice")
    assert outcome.status is not None
    assert outcome.status["transport"] == transport


def test_one_login_by_hand_with_a_second_factor_serves_the_bridge(cluster: Cluster) -> None:
    laptop, login1 = cluster.host("laptop"), cluster.host("login1")
    near = cluster.near("laptop", "alice")
    refused = near.connect(addr="login1", autostart=True, ssh="master")
    assert refused.error is not None
    assert refused.error["kind"] == "MasterRequired"
    assert "Connection from" not in login1.sshd_log()

    command = refused.error["advice"].partition("with: ")[2]
    laptop.run("sh", "-c", command + " >/dev/null 2>&1 </dev/null", user="alice")
    for engine in ("master", "auto"):
        outcome = near.connect(addr="login1", autostart=True, ssh=engine, run=[["id", "-un"]])
        assert_up(outcome, "alice")
    assert successes(login1) == 1
    exit_ = shlex.join(["ssh", "-o", "ControlPath=~/.ssh/ssb-%C", "-O", "exit", "login1"])
    laptop.run("sh", "-c", exit_, user="alice")
