"""What a scheduler gets to see when links break and many ask: each job once, and few questions."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from smartsim_bridge.server.polls import RATE
from tests.cluster.cluster import Cluster
from tests.cluster.host import Host
from tests.cluster.jobs import ids_by_name, wait_for_job
from tests.cluster.session import Session
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

ANSWER_SECONDS = 120.0
# Of a link that breaks while the answer is on its way.
RACE_SECONDS = 0.02


@contextmanager
def session_with(cluster: Cluster, command: str, script: str) -> Iterator[Session]:
    """One whose head finds this script before the real command, which is its $REAL."""
    cluster.without_slurm("compute1")
    path = cluster.host("login1").path(f"/usr/local/bin/{command}")
    path.write_text(f"#!/bin/sh\nREAL=/usr/bin/{command}\n{script}", encoding="ascii")
    path.chmod(0o755)
    try:
        with cluster.near("compute1", "alice").session() as session:
            yield session
    finally:
        path.unlink()


# --- each job once ------------------------------------------------------------------------------

# Says how far it is by files, and waits for the test before it goes on.
SLOW_SBATCH = """
reach() { touch "/tmp/$1"; until [ -e "/tmp/after-$1" ]; do sleep 0.01; done; }
reach called
answer=$("$REAL" "$@")
status=$?
reach submitted
echo "$answer"
exit $status
"""
MOMENTS = ("before it runs", "before it answers", "while it answers")


class Sbatch:
    """The one on the head, which a test leads from step to step."""

    def __init__(self, head: Host) -> None:
        self._head = head

    def wait_for(self, step: str) -> None:
        wait_until(lambda: self._head.path(f"/tmp/{step}").exists(), ANSWER_SECONDS)

    def go_on(self, step: str) -> None:
        self._head.path(f"/tmp/after-{step}").touch()

    def begin_anew(self) -> None:
        for step in ("called", "submitted"):
            self._head.path(f"/tmp/{step}").unlink(missing_ok=True)
            self._head.path(f"/tmp/after-{step}").unlink(missing_ok=True)


@pytest.mark.parametrize("rounds", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_a_link_cut_while_sbatch_answers_makes_one_job_and_tells_its_id(
    cluster: Cluster, rounds: int
) -> None:
    sbatch = Sbatch(cluster.host("login1"))
    told: dict[str, list[str]] = {}
    with session_with(cluster, "sbatch", SLOW_SBATCH) as session:
        for number in range(rounds):
            name, moment = f"once-{rounds}-{number}", MOMENTS[number % len(MOMENTS)]
            told[name] = [submit_and_cut(cluster, session, sbatch, name, moment)]
    # The accounting hears of a job soon after it was submitted.
    wait_until(lambda: ids_by_name(cluster).keys() >= told.keys(), ANSWER_SECONDS)
    there = ids_by_name(cluster)
    assert {name: there[name] for name in told} == told


def submit_and_cut(
    cluster: Cluster, session: Session, sbatch: Sbatch, name: str, moment: str
) -> str:
    """What the caller was told."""
    sbatch.begin_anew()
    with session.popen("sbatch", "--parsable", "-J", name, "--wrap", "true") as shim:
        sbatch.wait_for("called")
        if moment == "before it runs":
            break_tunnel(cluster)
        sbatch.go_on("called")
        sbatch.wait_for("submitted")
        if moment == "before it answers":
            break_tunnel(cluster)
        sbatch.go_on("submitted")
        if moment == "while it answers":
            time.sleep(random.Random(name).uniform(0, RACE_SECONDS))  # chance is the point
            break_tunnel(cluster)
        said, complained = shim.communicate(timeout=ANSWER_SECONDS)
    assert (shim.returncode, complained) == (0, "")
    return said.strip()


def break_tunnel(cluster: Cluster) -> None:
    """What is on its way is lost, and the connection with it; the next one gets through."""
    cluster.firewall.cut("compute1", "login1")
    cluster.host("login1").run("pkill", "-u", "alice", "-x", "sshd")
    cluster.firewall.heal()


# --- few questions ------------------------------------------------------------------------------

# Takes as long as one on a cluster with much to do: a hundred interpreters start in that time.
COUNTED_SQUEUE = """
echo >>/tmp/runs
sleep 1
exec "$REAL" "$@"
"""
SHIMS = 100
HANDFUL = 8  # and what the time brings that the shims need to come
ALONE_SECONDS = SHIMS / 2  # what the median would be if each had to wait for those before it
# One process starts them all at once, and measures each; so it does with what a shim is at least.
MANY = """
import json, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
def measure(command):
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    return time.monotonic() - began, done.returncode, done.stderr
count, began = int(sys.argv[1]), time.monotonic()
bare = [sys.executable, "-I", "-S", "-c", "pass"]
with ThreadPoolExecutor(count) as pool:
    shims = list(pool.map(measure, [["squeue", "--me", "-h"]] * count))
    seconds = time.monotonic() - began
    interpreters = list(pool.map(measure, [bare] * count))
print(json.dumps([shims, interpreters, seconds]))
"""


def test_a_hundred_shims_ask_the_scheduler_a_handful_of_times(cluster: Cluster) -> None:
    with session_with(cluster, "squeue", COUNTED_SQUEUE) as session:
        said = session.run(sys.executable, "-c", MANY, str(SHIMS)).stdout
    shims, bare, seconds = json.loads(said)
    runs = len(cluster.host("login1").path("/tmp/runs").read_text().splitlines())
    assert [(status, complained) for _, status, complained in shims] == [(0, "")] * SHIMS
    assert runs <= HANDFUL + RATE * seconds
    median, least = (statistics.median(one[0] for one in kind) for kind in (shims, bare))
    print(f"{SHIMS} shims: {runs} runs, median {median:.3f} s; bare interpreters {least:.3f} s")
    assert median < ALONE_SECONDS


# --- a link that is away for a while ------------------------------------------------------------

# As SmartSim's and others' loops: one answer that is not what it should be ends it.
POLL = """
import subprocess, sys
for line in sys.stdin:
    for asked in (["squeue", "-h", "-j", sys.argv[1], "-o", "%T"],
                  ["sacct", "-n", "-X", "-P", "-j", sys.argv[1], "-o", "State"]):
        done = subprocess.run(asked, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "RUNNING\\n", ""), done
    print("asked", flush=True)
"""


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.soak)])
def test_a_poller_does_not_notice_a_cut(cluster: Cluster, seconds: float) -> None:
    cluster.without_slurm("compute1")
    with cluster.near("compute1", "alice").session() as session:
        job = session.run("sbatch", "--parsable", "--wrap", "sleep 1000").stdout.strip()
        wait_for_job(cluster, job, "RUNNING")
        with session.popen(sys.executable, "-c", POLL, job, stdin=subprocess.PIPE) as poller:
            assert poller.stdin is not None
            assert ask_once(poller) == "asked\n"
            cluster.firewall.cut("compute1", "login1")
            poller.stdin.write("again\n" * 3)
            poller.stdin.flush()
            time.sleep(seconds)  # that long is the point
            cluster.firewall.heal()
            said, complained = poller.communicate(timeout=ANSWER_SECONDS)
    assert (poller.returncode, said, complained) == (0, "asked\n" * 3, "")


def ask_once(poller: subprocess.Popen[str]) -> str:
    assert poller.stdin is not None
    assert poller.stdout is not None
    poller.stdin.write("ask\n")
    poller.stdin.flush()
    return poller.stdout.readline()
