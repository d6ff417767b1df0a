"""What a hundred askers cost a real slurmctld."""

from __future__ import annotations

import json
import re

import pytest

from smartsim_bridge.server.polls import RATE

from .cluster import Cluster

pytestmark = pytest.mark.cluster

HANDFUL = 4  # and what the time brings that the askers need to come

ASK = """
import json, time
from concurrent.futures import ThreadPoolExecutor
from smartsim_bridge import init_command_server

bridges = [init_command_server(addr="login1", autostart=True) for _ in range(5)]
job = bridges[0].run(["sbatch", "--parsable", "--hold", "--wrap", "true"]).stdout.strip()
before, begin = bridges[0].status(), time.monotonic()
with ThreadPoolExecutor(100) as pool:
    asked = [pool.submit(bridges[i % 5].run, ["squeue", "-h", "-o", "%i"]) for i in range(100)]
    saw = [job in answer.result().stdout.split() for answer in asked]
after, seconds = bridges[0].status(), time.monotonic() - begin
bridges[0].run(["scancel", job])
gone = job not in bridges[1].run(["squeue", "-h", "-o", "%i"]).stdout.split()
runs = (after.polls - after.joined) - (before.polls - before.joined)
told = {"saw": saw, "gone": gone, "polls": after.polls - before.polls, "runs": runs}
print(json.dumps({**told, "seconds": seconds}))
"""


def asked_of_slurm(cluster: Cluster) -> int:
    """How often slurmctld was asked for jobs."""
    said = cluster.host("login1").run("sdiag", user="root").stdout
    counts = re.findall(r"REQUEST_JOB_(?:USER_)?INFO\w* .*?count:(\d+)", said)
    return sum(map(int, counts))


def test_a_hundred_that_ask_squeue_at_once_cost_slurm_a_handful(cluster: Cluster) -> None:
    before = asked_of_slurm(cluster)
    done = cluster.near("compute1", "alice").python(ASK)
    check(done.stdout, asked_of_slurm(cluster) - before)


def check(said: str, cost: int) -> None:
    told = json.loads(said.splitlines()[-1])
    print(f"{told['runs']} runs, {cost} requests to slurmctld, {told['seconds']:.1f} s")
    assert told["polls"] == 100
    assert all(told["saw"])  # the job that was handed in just before
    assert told["gone"]
    assert 1 <= told["runs"] <= HANDFUL + RATE * told["seconds"]
    assert told["runs"] <= cost <= told["runs"] + 3  # the last squeue, and scancel's own look


SHIMS = """
import json, subprocess, time
from smartsim_bridge import init_command_server

bridge = init_command_server(addr="login1", autostart=True)
ask = ["squeue", "-h", "-o", "%i"]
submit = ["sbatch", "--parsable", "--hold", "--wrap", "true"]
job = subprocess.run(submit, stdout=subprocess.PIPE, text=True).stdout.strip()
before, begin = bridge.status(), time.monotonic()
asked = [subprocess.Popen(ask, stdout=subprocess.PIPE, text=True) for _ in range(100)]
saw = [job in one.communicate()[0].split() for one in asked]
after, seconds = bridge.status(), time.monotonic() - begin
subprocess.run(["scancel", job])
gone = job not in subprocess.run(ask, stdout=subprocess.PIPE, text=True).stdout.split()
runs = (after.polls - after.joined) - (before.polls - before.joined)
told = {"saw": saw, "gone": gone, "polls": after.polls - before.polls, "runs": runs}
print(json.dumps({**told, "seconds": seconds}))
"""


def test_a_hundred_shims_do_so_too(cluster: Cluster) -> None:
    before = asked_of_slurm(cluster)
    cluster.without_slurm("compute1")
    done = cluster.near("compute1", "alice").python(SHIMS)
    check(done.stdout, asked_of_slurm(cluster) - before)
