"""Login shells, start-up files, forced commands and Pythons of a whole site."""

from __future__ import annotations

import pytest

from .cluster import Cluster
from .near_side import SOON

pytestmark = pytest.mark.cluster

WORKING = ["alice", "tess", "noisy", "fiona", "zoe", "kurt", "dora", "force"]
LOUD = {"tess": "WELCOME", "noisy": "maintenance", "force": "NOTICE"}


@pytest.mark.parametrize("name", WORKING)
def test_every_account_that_may_run_commands_reaches_the_scheduler(
    cluster: Cluster, name: str
) -> None:
    outcome = cluster.near("laptop", name).connect(addr="login1", autostart=True, run=[["squeue"]])

    assert outcome.transport == "tunnel"
    assert outcome.seconds < SOON
    (squeue,) = outcome.completed
    assert squeue["returncode"] == 0
    assert squeue["stdout"].startswith("             JOBID"), "nothing of a start-up file is in it"
    assert squeue["stderr"] == ""


@pytest.mark.parametrize("name", LOUD)
def test_the_loud_accounts_are_loud(cluster: Cluster, name: str) -> None:
    said = cluster.host("laptop").run("ssh", "login1", "true", user=name)

    assert LOUD[name] in said.stdout


def test_a_slow_start_up_file_is_paid_once(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "sloth").connect(
        addr="login1", autostart=True, transport="tunnel", run=[["squeue"]]
    )
    assert outcome.error is None
    assert outcome.completed[0]["returncode"] == 0
    # It writes a line each time.
    assert cluster.host("login1").path("/home/sloth/paid").read_text() == "\n"


@pytest.mark.parametrize("ssh", ["paramiko", "openssh"])
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("nosh", "NoLoginShell", "not available"),
        ("jail", "CommandsForbidden", "may only transfer files"),
    ],
)
def test_an_account_that_may_not_is_told_so_at_once(
    cluster: Cluster, name: str, kind: str, words: str, ssh: str
) -> None:
    # From an account whose shell on the laptop is one: ssh itself may need it.
    outcome = cluster.near("laptop", "alice").connect(
        addr=f"{name}@login1", autostart=True, ssh=ssh
    )

    assert outcome.error is not None
    assert outcome.error["kind"] == kind
    assert words in outcome.error["text"]
    assert outcome.error["host"]
    assert outcome.error["step"] == "probe"
    assert "ask the site" in outcome.error["advice"]
    assert outcome.seconds < SOON


def test_a_head_without_python_is_told_with_what_was_tried(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(addr="login2", autostart=True)

    assert outcome.error is not None
    assert outcome.error["kind"] == "NoUsablePython"
    assert "python=" in outcome.error["advice"]
    assert "prelude=" in outcome.error["advice"]
    assert "python3" in outcome.error["text"]


def test_a_named_python_is_the_one_that_serves(cluster: Cluster) -> None:
    head = cluster.host("login1")
    path = "/home/alice/chosen"
    head.path(path).symlink_to("/usr/local/bin/python3")
    outcome = cluster.near("laptop", "alice").connect(addr="login1", autostart=True, python=path)

    assert outcome.error is None
    stages = {stage["name"]: stage["detail"] for stage in (outcome.status or {})["stages"]}
    assert f"{path}: Python 3" in stages["probe"]


def test_a_named_python_that_is_none_is_told(cluster: Cluster) -> None:
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", autostart=True, python="/opt/none/python3"
    )
    assert outcome.error is not None
    assert outcome.error["kind"] == "NoUsablePython"
    assert "/opt/none/python3" in outcome.error["what"]


def test_a_module_that_the_prelude_loads_brings_the_python(cluster: Cluster) -> None:
    home = cluster.host("login3").path("/home/alice")
    (home / "init").mkdir()
    (home / "init" / "sh").write_text(
        'module() { [ "$*" = "load python" ] && PATH=$HOME/modules/python/bin:$PATH; }\n'
    )
    folder = home / "modules/python/bin"
    folder.mkdir(parents=True)
    (folder / "python3").write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    (folder / "python3").chmod(0o755)
    outcome = cluster.near("laptop", "alice").connect(
        addr="login3",
        autostart=True,
        prelude=". init/sh\nmodule load python",
        run=[["sh", "-c", "command -v python3"]],
    )
    assert outcome.error is None
    assert outcome.completed[0]["stdout"] == "/home/alice/modules/python/bin/python3\n"


def test_commands_have_the_umask_of_a_login(cluster: Cluster) -> None:
    login = cluster.host("laptop").run("ssh", "login1", "umask", user="alice").stdout
    outcome = cluster.near("laptop", "alice").connect(
        addr="login1", autostart=True, run=[["sh", "-c", "umask"]]
    )
    assert outcome.error is None
    assert outcome.completed[0]["stdout"] == login
