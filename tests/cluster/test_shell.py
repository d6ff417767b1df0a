"""Unchanged programs under `smartsim-bridge shell`, and shims that are installed for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

from .accounts import ACCOUNTS
from .cluster import Cluster
from .host import Host
from .jobs import wait_for_job

pytestmark = pytest.mark.cluster

PROGRAM = str(Path(sys.executable).with_name("smartsim-bridge"))
SHIMS = "~/.local/share/smartsim-bridge/shims"
SECONDS = 120.0

# What anybody might have written before there was this project.
SCRIPT = """
import subprocess
done = subprocess.run(["sbatch", "--parsable", "job.sh"], stdout=subprocess.PIPE, text=True)
print("job", done.stdout.strip(), done.returncode)
"""
JOB = "#!/bin/sh\n#SBATCH --job-name=unchanged\nhostname > job.out\n"


def logins(cluster: Cluster) -> int:
    return cluster.host("login1").sshd_log().count("Accepted ")


def write(host: Host, name: str, text: str) -> None:
    file = host.path(f"/home/alice/{name}")
    file.write_text(text, "utf-8")


def test_an_unchanged_script_submits_from_a_host_without_slurm(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    compute1 = cluster.host("compute1")
    write(compute1, "script.py", SCRIPT)
    write(compute1, "job.sh", JOB)
    bare = compute1.run(sys.executable, "script.py", user="alice", check=False)
    assert "No such file or directory: 'sbatch'" in bare.stderr
    done = cluster.near("compute1", "alice").cli(
        *("shell", "--addr", "login1", "--autostart", "--", sys.executable, "script.py")
    )
    assert done.returncode == 0, done.stderr
    word, job, status = done.stdout.split()
    assert (word, status) == ("job", "0")
    wait_for_job(cluster, job)


LEAVING = """
import subprocess
step = "until [ -e go ]; do sleep 0.1; done; sleep 11; hostname > step.part; mv step.part step.out"
words = ["srun", "-N1", "-J", "left", "-o", "/dev/null", "sh", "-c", step]
shim = subprocess.Popen(words, stdin=subprocess.DEVNULL)
while not subprocess.run(["squeue", "-h", "-n", "left", "-t", "R"], capture_output=True).stdout:
    pass
"""


def test_an_srun_that_a_script_leaves_behind_completes(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    compute1 = cluster.host("compute1")
    write(compute1, "script.py", LEAVING)
    done = cluster.near("compute1", "alice").cli(
        *("shell", "--addr", "login1", "--autostart", "--", sys.executable, "script.py")
    )
    assert done.returncode == 0, done.stderr
    assert "srun: the bridge was closed, and the command goes on on login1" in done.stderr
    # What a lost session leaves behind is ended after ten seconds.
    compute1.run("touch", "go", user="alice")
    wait_until(compute1.path("/home/alice/step.out").exists, SECONDS)
    words = ("sacct", "-n", "-X", "-P", "--name=left", "--format=state")
    login1 = cluster.host("login1")
    wait_until(lambda: login1.run(*words, user="alice").stdout.split()[-1:] == ["COMPLETED"])


@pytest.mark.parametrize("name", ["compute1", "laptop"])
def test_installed_shims_need_nothing_but_the_path(name: str, cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    near, host = cluster.near(name, "alice"), cluster.host(name)
    done = near.cli("shims", "install", "--addr", "login1")
    assert done.returncode == 0, done.stderr
    assert " sbatch " in done.stdout
    write(host, "job.sh", JOB)
    first = host.run("sh", "-c", f"{SHIMS}/sbatch --parsable job.sh", user="alice")
    wait_for_job(cluster, first.stdout.strip())
    before = logins(cluster)
    queue = host.run("sh", "-c", f"{SHIMS}/squeue -h -o %A", user="alice")
    assert queue.returncode == 0
    assert logins(cluster) == before  # it goes by the agent
    assert "linked to login1" in near.cli("shims", "list").stdout
    assert near.cli("shims", "remove").returncode == 0


def test_on_the_head_itself_they_are_the_real_commands(cluster: Cluster) -> None:
    near, login1 = cluster.near("compute1", "alice"), cluster.host("login1")
    assert near.cli("shims", "install", "--addr", "login1").returncode == 0
    done = login1.run("sh", "-c", f"PATH={SHIMS}:$PATH squeue -h", user="alice")
    assert done.returncode == 0
    assert "none on this host" in cluster.near("login1", "alice").cli("shims", "list").stdout


def test_an_agent_outlives_its_link(cluster: Cluster) -> None:
    near, laptop = cluster.near("laptop", "alice"), cluster.host("laptop")
    assert near.cli("shims", "install", "--addr", "login1").returncode == 0
    laptop.run("sh", "-c", f"{SHIMS}/squeue", user="alice")
    before = near.cli("shims", "list").stdout
    cluster.host("login1").run("pkill", "-KILL", "-u", "alice", "sshd")  # in that host
    assert laptop.run("sh", "-c", f"{SHIMS}/squeue -h", user="alice").returncode == 0
    wait_until(lambda: near.cli("shims", "list").stdout == before, SECONDS)


def test_after_the_server_was_stopped_the_next_shim_has_one_started(cluster: Cluster) -> None:
    near, laptop = cluster.near("laptop", "alice"), cluster.host("laptop")
    assert near.cli("shims", "install", "--addr", "login1").returncode == 0
    laptop.run("sh", "-c", f"{SHIMS}/squeue", user="alice")
    assert near.cli("stop", "--addr", "login1").returncode == 0
    wait_until(lambda: "none on this host" in near.cli("shims", "list").stdout, SECONDS)
    assert laptop.run("sh", "-c", f"{SHIMS}/squeue -h", user="alice").returncode == 0


def test_the_agent_asks_at_the_terminal_of_the_shim_that_starts_it(cluster: Cluster) -> None:
    laptop, kim = cluster.host("laptop"), cluster.near("laptop", "kim")
    at_terminal(laptop, f"{PROGRAM} shims install --addr login1")
    alone = laptop.run("sh", "-c", f"setsid {SHIMS}/squeue", user="kim", check=False)
    assert alone.returncode == 255
    assert "smartsim-bridge shims start" in alone.stderr
    # Not a login for each of ten, and none again after a wrong answer, or Ctrl-C at the question.
    before = calls(cluster)
    ten = f"for i in 1 2 3 4 5 6 7 8 9 10; do {SHIMS}/squeue & done; wait"
    with silent_sshd(cluster.host("login1")) as go_on:
        shims = laptop.popen("setsid", "-w", "sh", "-c", ten, user="kim")
        wait_until(lambda: starters(laptop) == 10, SECONDS)
        go_on()
        _, complained = shims.communicate(timeout=SECONDS)
    assert complained.count("smartsim-bridge shims start") == 10
    # The failure of one is that of all who waited for it.
    assert calls(cluster) == before + 1
    before = calls(cluster)
    wrong = at_terminal(laptop, f"{SHIMS}/squeue", types="wrong\n", status=255)
    assert "refused" in wrong
    assert "assword:" not in wrong
    assert calls(cluster) == before + 1
    at_terminal(laptop, f"exec {SHIMS}/squeue", types="\x03", status=130)
    wait_until(lambda: "none on this host" in kim.cli("shims", "list").stdout, SECONDS)
    assert calls(cluster) == before + 2
    assert "JOBID" in at_terminal(laptop, f"{SHIMS}/squeue")
    later = laptop.run("sh", "-c", f"setsid -w {SHIMS}/squeue", user="kim")  # asks nobody
    assert "JOBID" in later.stdout
    secret = ACCOUNTS["kim"].password
    kept = ("/tmp/smartsim-bridge-*", "~/.local")
    found = laptop.run("sh", "-c", f"grep -r {secret} {' '.join(kept)}", user="kim", check=False)
    assert (found.returncode, found.stdout) == (1, "")


def calls(cluster: Cluster) -> int:
    """How often somebody has called at the head's sshd."""
    return cluster.host("login1").sshd_log().count("Connection from")


@contextmanager
def silent_sshd(head: Host) -> Iterator[Callable[[], object]]:
    """Whoever calls there waits, until the end of the block or a call of what this yields."""
    pid = head.path("/run/sshd-22.pid").read_text("ascii").strip()

    def go_on() -> object:
        return head.run("kill", "-CONT", pid)

    head.run("kill", "-STOP", pid)
    try:
        yield go_on
    finally:
        go_on()


def starters(host: Host) -> int:
    """How many shims start an agent, or wait for the one that does."""
    links = host.run("sh", "-c", "readlink /proc/[0-9]*/fd/*", check=False).stdout.splitlines()
    return sum(link.endswith("/starting") for link in links)


def at_terminal(host: Host, line: str, *, types: str = "", status: int = 0) -> str:
    """Runs it for kim, who types his password when he is asked; what the screen shows then."""
    with host.popen(
        *("script", "-qefc", f"sh -c '{line}'", "/dev/null"), user="kim", stdin=subprocess.PIPE
    ) as typing:
        assert typing.stdin is not None
        assert typing.stdout is not None
        shown = ""
        while "assword:" not in shown:
            more = typing.stdout.read(1)
            assert more, shown
            shown += more
        typing.stdin.write(types or ACCOUNTS["kim"].password + "\n")
        typing.stdin.flush()
        rest = typing.stdout.read()
        assert typing.wait(SECONDS) == status, shown + rest
    assert ACCOUNTS["kim"].password not in shown + rest
    return rest
