"""Another scheduler than Slurm: Grid Engine's commands, from hosts that do not have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.grid_engine import open_grid_engine
from tests.cluster.session import Session
from tests.cluster.topology import NODES
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

JOB_SECONDS = 60.0
SCRIPT = "#!/bin/sh\n#$ -j y\necho said $1\n"


@pytest.fixture(scope="module", autouse=True)
def grid_engine(running_cluster: Cluster) -> Iterator[None]:
    with open_grid_engine(running_cluster):
        yield


def test_only_the_head_has_its_commands(cluster: Cluster) -> None:
    for name in ("compute1", "laptop", "login3"):
        found = cluster.host(name).run("sh", "-c", "command -v qsub qstat", check=False)
        assert found.stdout == ""


@pytest.fixture(params=["compute1", "laptop"])
def session(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Session]:
    with cluster.near(request.param, "alice").session() as session:
        yield session


def test_jobs_are_submitted_from_a_file_and_from_stdin(cluster: Cluster, session: Session) -> None:
    session.host.run("sh", "-c", "cat >/tmp/job.sh", user="alice", input=SCRIPT)
    submit = ("qsub", "-terse", "-cwd", "-o", "file.out", "/tmp/job.sh", "by a file")
    from_file = session.run(*submit)
    from_stdin = session.run("qsub", "-cwd", "-o", "stdin.out", input=SCRIPT).stdout
    assert from_stdin.endswith('("STDIN") has been submitted\n')
    for job in (from_file.stdout.strip(), from_stdin.split()[2]):
        wait_until(lambda job=job: exit_status(session, job) == "0", JOB_SECONDS)  # type: ignore[misc]
    home = cluster.host("login1").path("/home/alice")
    assert (home / "file.out").read_text() == "said by a file\n"
    assert (home / "stdin.out").read_text() == "said\n"


def test_a_job_is_seen_and_deleted(cluster: Cluster, session: Session) -> None:
    job = session.run("qsub", "-terse", "-b", "y", "sleep", "1000").stdout.strip()
    wait_until(lambda: f"{job} " in session.run("qstat", "-s", "r").stdout, JOB_SECONDS)
    # That is said of one, too, that is still on its way to its node.
    nodes = [cluster.host(name) for name in NODES]
    wait_until(lambda: any(node.runs("sleep", "1000") for node in nodes), JOB_SECONDS)
    assert session.run("qdel", job).stdout == f"alice has registered the job {job} for deletion\n"
    wait_until(lambda: exit_status(session, job) == "137", JOB_SECONDS)
    wait_until(lambda: session.run("qstat").stdout == "", JOB_SECONDS)


def test_a_job_submitted_in_a_job_sees_none_of_that_ones_variables(
    cluster: Cluster, session: Session
) -> None:
    home = cluster.host("login1").path("/home/alice")

    def inside(job: str, **environ: str) -> dict[str, str]:
        """What a job of that name sees that is submitted with these variables."""
        line = f"env -0 > {job}.env.part; mv {job}.env.part {job}.env"
        words = ("qsub", "-V", "-cwd", "-N", job, "-o", "/dev/null", "-j", "y")
        session.run(*words, input=f"#!/bin/sh\n{line}\n", env=environ)
        wait_until((home / f"{job}.env").exists, JOB_SECONDS)
        entries = (home / f"{job}.env").read_text().split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    outer = inside("outer")
    assert {"JOB_ID", "JOB_NAME", "NSLOTS", "QUEUE", "SGE_JOB_SPOOL_DIR"} <= set(outer)
    strange = {"PE": "mpi", "SGE_CKPT_DIR": "/outer", "SGE_TASK_STEPSIZE": "7"}
    inner = inside("inner", **{**outer, **strange, "SGE_SETTING": "1", "MINE": "here"})
    assert (inner["MINE"], inner["SGE_SETTING"]) == ("here", "1")
    assert inner["JOB_NAME"] == "inner"
    assert inner["JOB_ID"] != outer["JOB_ID"]
    assert [name for name, value in strange.items() if inner.get(name) == value] == []


def test_an_error_is_grid_engines_own(session: Session) -> None:
    refused = session.run("qstat", "-j", "4000000", check=False)
    assert refused.returncode == 1
    assert "do not exist" in refused.stdout + refused.stderr


def exit_status(session: Session, job: str) -> str:
    """By the accounting; empty before the end."""
    lines = session.run("qacct", "-j", job, check=False).stdout.splitlines()
    return next((line.split()[1] for line in lines if line.startswith("exit_status")), "")
