"""The examples run unchanged, on a compute node whose Slurm was taken away."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest

from .cluster import Cluster
from .jobs import wait_for_job
from .site import CLONE

pytestmark = pytest.mark.cluster

EXAMPLES = CLONE / "examples"
SECONDS = 240.0


# Runs all cells in a kernel of this Python; prints what they said.
RUN_NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        print(output.get("text", ""), end="")
"""


def needs(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}; pip install '.[examples]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def bare(cluster: Cluster) -> Cluster:
    cluster.without_slurm("compute1")
    return cluster


def run_example(cluster: Cluster, name: str) -> str:
    """What it printed; the head is its one argument."""
    done = cluster.host("compute1").run(
        sys.executable, str(EXAMPLES / name), "login1", user="alice", timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_dask_workers_come_as_jobs_and_go_when_there_is_nothing_to_do(bare: Cluster) -> None:
    needs("dask_jobqueue", "distributed")
    said = run_example(bare, "dask_jobqueue_cluster.py").splitlines()
    assert said[0] == "sum: 285"
    assert said[-1] == "scaled down"


def test_submitit_runs_a_sweep_as_an_array(bare: Cluster) -> None:
    needs("submitit")
    said = run_example(bare, "submitit_sweep.py")
    assert "scheduler: slurm" in said
    assert "100 K: 150\n200 K: 300\n300 K: 450\n" in said


def test_the_notebook_runs_from_its_first_cell_to_its_last(bare: Cluster) -> None:
    needs("nbclient", "ipykernel")
    kernel = bare.near("compute1", "alice")
    done = kernel.python(RUN_NOTEBOOK, str(EXAMPLES / "notebook.ipynb"), timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    job = done.stdout.partition("job ")[2].split()[0]
    assert f"{job} COMPLETED\nran on compute" in done.stdout
    assert "PartitionName=" in done.stdout
    wait_for_job(bare, job)
