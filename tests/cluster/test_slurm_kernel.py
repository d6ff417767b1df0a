"""A notebook on a compute node without Slurm: its kernel reaches the scheduler in every way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.jobs import is_over, steps_of, wait_for_job, wait_for_running
from tests.cluster.site import CLONE
from tests.support.waiting import wait_until

pytest.importorskip("nbclient")
pytestmark = pytest.mark.cluster

NOTEBOOK_SECONDS = 240.0
END_SECONDS = 60.0

CONNECT = """
from smartsim_bridge import init_command_server
bridge = init_command_server("login1", autostart=True)
"""
# In a cell a person types `!`; a library that is imported there calls subprocess.
SUBPROCESS = """
import subprocess
def said(*command, **keywords):
    return subprocess.run(command, text=True, check=True, capture_output=True, **keywords).stdout
"""
ALLOCATE = """
asked = ["salloc", "--no-shell", "-N2"]
job = subprocess.run(asked, text=True, check=True, stderr=subprocess.PIPE).stderr.split()[-1]
print(job)
"""


@contextmanager
def running_notebook(cluster: Cluster, *cells: str) -> Iterator[subprocess.Popen[str]]:
    with cluster.host("compute1").popen(
        *(sys.executable, "-m", "tests.cluster.notebook_cells"),
        user="alice",
        env={"PYTHONPATH": str(CLONE)},
        stdin=subprocess.PIPE,
        stderr=None,
    ) as notebook:
        assert notebook.stdin is not None
        notebook.stdin.write(json.dumps([CONNECT, *cells]))
        notebook.stdin.close()
        notebook.stdin = None
        try:
            yield notebook
        finally:
            notebook.kill()


def printed(notebook: subprocess.Popen[str]) -> list[str]:
    """What each cell printed, when all have run; of the one that connects: nothing."""
    texts: list[str] = json.loads(
        notebook.communicate(timeout=NOTEBOOK_SECONDS)[0].splitlines()[-1]
    )
    assert texts[0] == ""
    return texts[1:]


def run_notebook(cluster: Cluster, *cells: str) -> list[str]:
    with running_notebook(cluster, *cells) as notebook:
        return printed(notebook)


def test_cells_ask_submit_and_run_steps(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    texts = run_notebook(
        cluster,
        SUBPROCESS,
        "!sinfo --noheader --format %P",
        "%%bash\nsrun -N2 hostname | sort",
        "job = said('sbatch', '--parsable', input='#!/bin/sh\\nhostname\\n').strip()\nprint(job)",
        "said('srun', 'cat', input='fed')",
        "bridge.run(['scontrol', 'show', 'hostnames', 'compute[1-2]']).stdout.split()",
        "bridge.close()",
        "!sinfo --noheader",
    )
    assert texts[1] == "debug*\r\n"
    assert texts[2] == "compute1\ncompute2\n"
    wait_for_job(cluster, texts[3].strip())
    assert texts[4:7] == ["'fed'", "['compute1', 'compute2']", ""]
    assert "not found" in texts[7]


def test_cells_make_an_allocation_use_it_and_give_it_back(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    texts = run_notebook(
        cluster,
        SUBPROCESS,
        ALLOCATE,
        "print(said('srun', '--jobid', job, '-N2', 'hostname'))",
        "!scancel {job}",
    )
    job = texts[1].strip()
    assert sorted(texts[2].split()) == ["compute1", "compute2"]
    wait_for_job(cluster, job, "CANCELLED")
    wait_until(lambda: steps_of(cluster, job) == ["hostname|COMPLETED"])


@pytest.mark.parametrize(
    "cell",
    ["!srun -J {name} sleep 1000", "subprocess.run(['srun', '-J', '{name}', 'sleep', '1000'])"],
    ids=["shell", "subprocess"],
)
def test_the_button_ends_the_step_and_the_notebook_goes_on(cluster: Cluster, cell: str) -> None:
    cluster.without_slurm("compute1")
    name = f"interrupted-{cell[0] == '!'}"
    write_pid = "import os; open('kernel.pid', 'w').write(str(os.getpid()))"
    cells = (SUBPROCESS, write_pid, cell.format(name=name), "!sinfo --noheader --format %P")
    with running_notebook(cluster, *cells) as notebook:
        job = wait_for_running(cluster, name)
        wait_until(lambda: steps_of(cluster, job) == [f"{name}|RUNNING"])
        compute1 = cluster.host("compute1")
        pid = compute1.path("/home/alice/kernel.pid").read_text()
        compute1.run("kill", "-INT", "--", f"-{pid}")  # as Jupyter does: the whole group
        texts = printed(notebook)
    assert texts[3] == "debug*\r\n"
    wait_until(lambda: is_over(cluster, job), END_SECONDS)
