"""What a hundred askers cost a real slurmctld."""

from __future__ import annotations

import json
import re

import pytest

from .cluster import Cluster

pytestmark = pytest.mark.cluster

HANDFUL = 10

ASK = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from smartsim_bridge import init_command_server

bridges = [init_command_server(addr="login1", autostart=True) for _ in range(5)]
job = bridges[0].run(["sbatch", "--parsable", "--hold", "--wrap", "true"]).stdout.strip()
before = bridges[0].status()
with ThreadPoolExecutor(100) as pool:
    asked = [pool.submit(bridges[i % 5].run, ["squeue", "-h", "-o", "%i"]) for i in range(100)]
    saw = [job in answer.result().stdout.split() for answer in asked]
after = bridges[0].status()
bridges[0].run(["scancel", job])
gone = job not in bridges[1].run(["squeue", "-h", "-o", "%i"]).stdout.split()
runs = (after.polls - after.joined) - (before.polls - before.joined)
print(json.dumps({"saw": saw, "gone": gone, "polls": after.polls - before.polls, "runs": runs}))
"""


def asked_of_slurm(cluster: Cluster) -> int:
    """How often slurmctld was asked for jobs."""
    said = cluster.host("login1").run("sdiag", user="root").stdout
    counts = re.findall(r"REQUEST_JOB_(?:USER_)?INFO\w* .*?count:(\d+)", said)
    return sum(map(int, counts))


def test_a_hundred_that_ask_squeue_at_once_cost_slurm_a_handful(cluster: Cluster) -> None:
    before = asked_of_slurm(cluster)
    done = cluster.near("compute1", "alice").python(ASK)
    told = json.loads(done.stdout.splitlines()[-1])
    cost = asked_of_slurm(cluster) - before
    assert told["polls"] == 100
    assert all(told["saw"])  # the job that was handed in just before
    assert told["gone"]
    assert 1 <= told["runs"] <= HANDFUL
    assert told["runs"] <= cost <= told["runs"] + 3  # the last squeue, and scancel's own look
