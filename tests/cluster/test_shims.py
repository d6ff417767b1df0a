"""What a shim's host and the head do not share: files, directories, the job around the caller.

The commands themselves are those of test_slurm; here it is what goes along with them.
"""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.jobs import wait_for_job
from tests.cluster.session import Session

pytestmark = pytest.mark.cluster

SCRIPT = "#!/bin/sh\necho from {} $SLURM_JOB_NAME $1\n"


def write(session: Session, path: str, text: str) -> None:
    session.host.run(
        "sh", "-c", f"mkdir -p $(dirname {path}); cat >{path}", user="alice", input=text
    )


def said(cluster: Cluster, job: str) -> str:
    """What it has printed into the home that the head and the nodes share."""
    wait_for_job(cluster, job.strip())
    return cluster.host("login1").path(f"/home/alice/{job.strip()}.out").read_text()


@pytest.mark.parametrize("there", ["nothing", "another"])
def test_a_script_in_tmp_is_brought_to_the_head(cluster: Cluster, there: str) -> None:
    """As dask-jobqueue writes it; a file of that name on the head is another one."""
    cluster.without_slurm("compute1")
    path = f"/tmp/{there}/made.sh"
    with cluster.near("compute1", "alice").session() as session:
        write(session, path, SCRIPT.format("compute1"))
        if there == "another":
            login1 = cluster.host("login1")
            login1.run("sh", "-c", f"mkdir -p /tmp/{there}; cat >{path}", input="#!/bin/sh\n")
        words = ("sbatch", "--parsable", "-o", "/home/alice/%j.out", path, "argument")
        job = session.run(*words).stdout
        assert said(cluster, job) == "from compute1 made.sh argument\n"


def test_a_laptops_script_runs_from_a_directory_that_only_the_laptop_has(cluster: Cluster) -> None:
    with cluster.near("laptop", "alice").session() as session:
        write(session, "/home/alice/mine/job.sh", SCRIPT.format("laptop"))
        line = "cd mine && sbatch --parsable -o %j.out job.sh"
        job = session.run("sh", "-c", line).stdout
        assert said(cluster, job) == "from laptop job.sh\n"


def test_a_path_of_the_heads_files_is_left_alone(cluster: Cluster) -> None:
    cluster.host("login1").run(
        "sh", "-c", "cat >there.sh", user="alice", input=SCRIPT.format("login1")
    )
    with cluster.near("laptop", "alice").session() as session:
        words = ("sbatch", "--parsable", "-o", "%j.out", "/home/alice/there.sh")
        assert said(cluster, session.run(*words).stdout) == "from login1 there.sh\n"
