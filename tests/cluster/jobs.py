"""What Slurm's accounting says of a job; asked on the head itself, never through a bridge."""

from __future__ import annotations

from tests.support.waiting import wait_until

from .cluster import Cluster

__all__ = ["ids_by_name", "is_over", "state_of", "steps_of", "wait_for_job", "wait_for_running"]

JOB_SECONDS = 60.0


def state_of(cluster: Cluster, job: str) -> str:
    return _ask(cluster, "-X", "-j", job, "-o", "State%20").strip()


def steps_of(cluster: Cluster, job: str) -> list[str]:
    """Its steps' names and states, as `name|state`, without those that every job has."""
    rows = _ask(cluster, "-P", "-j", job, "-o", "JobID,JobName,State").splitlines()
    steps = [row.partition("|") for row in rows if "." in row.partition("|")[0]]
    return [rest for step, _, rest in steps if step.rpartition(".")[2].isdigit()]


def ids_by_name(cluster: Cluster) -> dict[str, list[str]]:
    """All jobs that there ever were; those of earlier tests are among them."""
    found: dict[str, list[str]] = {}
    rows = _ask(cluster, "-X", "--allusers", "-S", "now-1days", "-P", "-o", "JobID,JobName")
    for row in rows.splitlines():
        job, _, name = row.partition("|")
        found.setdefault(name, []).append(job)
    return found


def wait_for_job(cluster: Cluster, job: str, state: str = "COMPLETED") -> None:
    assert job[:1].isdigit(), f"no job's id: {job!r}"
    wait_until(lambda: state_of(cluster, job).startswith(state), JOB_SECONDS)


def is_over(cluster: Cluster, job: str) -> bool:
    return not cluster.host("login1").run("squeue", "-h", "-j", job, check=False).stdout


def wait_for_running(cluster: Cluster, name: str) -> str:
    """The id of the job of that name, once it runs."""
    asked = ("squeue", "-h", "-t", "R", "-n", name, "-o", "%A")
    found: list[str] = []

    def is_running() -> bool:
        found[:] = cluster.host("login1").run(*asked).stdout.split()
        return bool(found)

    wait_until(is_running, JOB_SECONDS)
    return found[0]


def _ask(cluster: Cluster, *options: str) -> str:
    return cluster.host("login1").run("sacct", "--noheader", *options).stdout
