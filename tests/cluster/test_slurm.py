"""Slurm's own commands, where there is no Slurm: on a compute node without it, and on a laptop.

Every program here is one that knows nothing of a bridge: it finds a shim on its PATH.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.jobs import is_over, steps_of, wait_for_job, wait_for_running
from tests.cluster.session import Session
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

# From a kill of the shim to the end of what it ran on the cluster.
END_SECONDS = 60.0


@pytest.fixture(params=["compute1", "laptop"])
def session(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Session]:
    cluster.without_slurm("compute1")
    with cluster.near(request.param, "alice").session() as session:
        yield session


@pytest.fixture
def on_compute1(cluster: Cluster) -> Iterator[Session]:
    cluster.without_slurm("compute1")
    with cluster.near("compute1", "alice").session() as session:
        yield session


def home_file(cluster: Cluster, name: str) -> str:
    return cluster.host("login1").path(f"/home/alice/{name}").read_text()


# --- questions ----------------------------------------------------------------------------------


def test_questions_are_answered_as_on_the_head(cluster: Cluster, session: Session) -> None:
    login1 = cluster.host("login1")
    for asked in (
        ("sinfo", "--noheader", "--format", "%P %D"),
        ("scontrol", "show", "hostnames", "compute[1-2]"),
        ("scontrol", "show", "partition", "debug"),
        ("squeue", "--me"),
        ("sbatch", "--version"),
    ):
        answer = session.run(*asked).stdout
        assert answer
        assert answer == login1.run(*asked, user="alice").stdout
    refused = ("scontrol", "show", "job", "4000000")
    here = session.run(*refused, check=False)
    there = login1.run(*refused, user="alice", check=False)
    assert here.returncode == there.returncode == 1
    assert here.stderr == there.stderr == "slurm_load_jobs error: Invalid job id specified\n"


# --- batch jobs ---------------------------------------------------------------------------------


SCRIPT = "#!/bin/sh\necho said $1 $SLURM_ARRAY_TASK_ID\n"


def test_batch_jobs_are_submitted_in_every_way(cluster: Cluster, session: Session) -> None:
    from_stdin = session.run("sbatch", "--parsable", "-o", "stdin.out", input=SCRIPT)
    wrapped = session.run("sbatch", "--parsable", "-o", "wrap.out", "--wrap", "echo said wrap")
    array = session.run("sbatch", "--parsable", "-a", "1-2", "-o", "array.%a", input=SCRIPT)
    submitted = session.run("sbatch", "--wrap", "true").stdout
    jobs = [done.stdout.strip() for done in (from_stdin, wrapped)]
    tasks = [f"{array.stdout.strip()}_{task}" for task in (1, 2)]
    for job in (*jobs, *tasks, submitted.rpartition(" ")[2].strip()):
        wait_for_job(cluster, job)
    said = [home_file(cluster, name) for name in ("stdin.out", "wrap.out", "array.1", "array.2")]
    assert said == ["said\n", "said wrap\n", "said 1\n", "said 2\n"]
    shown = session.run("sacct", "--noheader", "-X", "-P", "-o", "JobID", "-j", ",".join(jobs))
    assert shown.stdout.split() == jobs


def test_a_loop_that_submits_a_file_keeps_its_input(cluster: Cluster, session: Session) -> None:
    """A shim reads stdin only where its command would; the file may be this host's alone."""
    place = "/tmp/job.sh"
    session.host.run("sh", "-c", f"cat >{place}", user="alice", input=SCRIPT)
    loop = f"while read name; do sbatch --parsable -o $name.out {place} by $name || exit; done"
    jobs = session.run("sh", "-c", loop, input="one\ntwo\nthree\n").stdout.split()
    assert len(jobs) == 3
    for job in jobs:
        wait_for_job(cluster, job)
    assert home_file(cluster, "three.out") == "said by\n"
    assert " JobName=job.sh " in session.run("scontrol", "-o", "show", "job", jobs[0]).stdout


def test_a_batch_script_starts_steps_of_its_own(cluster: Cluster, on_compute1: Session) -> None:
    """With the node's own srun, even where the script names the shim."""
    script = (
        f"#!/bin/sh\nsrun -N2 hostname\n{on_compute1.folder}/srun -n1 -N1 -w compute1 hostname\n"
    )
    submit = ("sbatch", "--parsable", "-N2", "-w", "compute[1-2]", "-o", "out")
    job = on_compute1.run(*submit, input=script).stdout.strip()
    wait_for_job(cluster, job)
    assert sorted(home_file(cluster, "out").split()) == ["compute1", "compute1", "compute2"]
    # The end of a step is told by its nodes, that of the job by the script.
    wait_until(lambda: steps_of(cluster, job) == ["hostname|COMPLETED"] * 2)


# --- allocations and steps ----------------------------------------------------------------------


def test_an_allocation_is_made_used_and_given_back(cluster: Cluster, session: Session) -> None:
    granted = session.run("salloc", "--no-shell", "-N2", "-J", "alloc", "-t", "0:05:00").stderr
    line = next(line for line in granted.splitlines() if "Granted" in line)
    assert line.startswith("salloc: Granted job allocation ")
    job = line.rpartition(" ")[2]
    said = session.run("srun", "--jobid", job, "-N2", "hostname").stdout
    assert sorted(said.split()) == ["compute1", "compute2"]
    assert session.run("srun", "--jobid", job, "-n1", "cat", input="fed\n").stdout == "fed\n"
    failed = session.run("srun", "--jobid", job, "-n1", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    assert "srun: error" in failed.stderr
    session.run("scancel", job)
    wait_for_job(cluster, job, "CANCELLED")


WAIT_FOR_GO = "echo first; until [ -e go ]; do sleep 0.05; done; echo last"


def test_output_is_seen_while_the_step_runs(cluster: Cluster, session: Session) -> None:
    with session.popen("srun", "-D", "/home/alice", "sh", "-c", WAIT_FOR_GO) as srun:
        assert srun.stdout is not None
        assert srun.stdout.readline() == "first\n"
        cluster.host("login1").run("touch", "go", user="alice")
        assert srun.communicate(timeout=60) == ("last\n", "")
        assert srun.returncode == 0


COMPLAINTS = "/tmp/complaints"
ONE_MORE = "interrupt (one more within 1 sec to abort)"
FORCED = "forcing job termination"
MOST_PRESSES = 30  # where the machine is so busy that a second passes between two of them


def press_ctrl_c(session: Session, srun: subprocess.Popen[str], pid: str) -> None:
    """As a person does: srun wants it twice within a second, and says so where it came later."""
    complaints = session.host.path(COMPLAINTS)
    for presses in range(1, MOST_PRESSES + 1):
        session.host.run("kill", "-INT", pid, user="alice")
        # No press is lost: srun has answered each before the next.
        wait_until(lambda: has_answered(complaints.read_text(), presses), END_SECONDS)  # noqa: B023
        if FORCED in complaints.read_text():
            assert presses > 1
            return
    raise AssertionError(complaints.read_text())


def has_answered(said: str, presses: int) -> bool:
    return FORCED in said or said.count(ONE_MORE) == presses


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_shim_that_is_stopped_takes_its_step_along(
    cluster: Cluster, session: Session, how: signal.Signals
) -> None:
    # The shell becomes the shim: its number is the shim's.
    line = f'echo $$; exec "$@" 2>{COMPLAINTS}'
    words = ("sh", "-c", line, "sh", "srun", "-J", "long", "sleep", "1000")
    with session.popen(*words) as srun:
        assert srun.stdout is not None
        pid = srun.stdout.readline().strip()
        job = wait_for_running(cluster, "long")
        wait_until(lambda: steps_of(cluster, job) == ["long|RUNNING"])
        if how is signal.SIGINT:
            press_ctrl_c(session, srun, pid)
        else:
            session.host.run("kill", f"-{how.value}", pid, user="alice")
        srun.communicate(timeout=END_SECONDS)
        wait_until(lambda: is_over(cluster, job), END_SECONDS)
        nodes = [cluster.host(name) for name in ("compute1", "compute2")]
        wait_until(lambda: not any(node.runs("sleep", "1000") for node in nodes), END_SECONDS)


# --- a script ---------------------------------------------------------------------------------

SEED = """
import subprocess
from smartsim_bridge import init_command_server
init_command_server(addr="login1", autostart=True)
print(subprocess.run(["sbatch", "--parsable", "job.sh"], capture_output=True, text=True).stdout)
"""


def test_a_script_that_calls_sbatch_is_told_an_id_that_the_head_knows(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    near = cluster.near("compute1", "alice")
    near.host.path("/home/alice/job.sh").write_text("#!/bin/sh\nhostname\n")
    wait_for_job(cluster, near.python(SEED).stdout.strip())


# --- inside a job -------------------------------------------------------------------------------

# What a notebook's job does: the script in it holds the bridge.  Its variables say that they
# belong to it, so that any that shows up elsewhere is found.
INSIDE = """
import json, os, subprocess, sys
from smartsim_bridge import init_command_server
os.environ.update({name: "of-the-outer" for name in json.loads(sys.argv[1])})
with init_command_server("login1", autostart=True, keep_env=("SLURM_KEPT",)) as bridge:
    submit = ["sbatch", "--parsable", "-o", "inner.env", "--wrap", "env"]
    print(subprocess.run(submit, capture_output=True, text=True, check=True).stdout.strip())
    print(bridge.status().left_behind)
    # Typed inside an allocation, it means a step of that.
    subprocess.run(["srun", "-N2", "-J", "step-of-the-outer", "true"], check=True)
"""
OUTER = [
    *("SLURM_PROCID", "SLURM_NNODES", "SLURM_CPU_BIND", "SLURM_KEPT", "SBATCH_PARTITION"),
    *("SRUN_CPUS_PER_TASK", "PMI_RANK", "PMI_SIZE", "PMIX_RANK"),
]


def test_a_job_from_inside_a_job_knows_nothing_of_it(cluster: Cluster) -> None:
    """But what the user wants it to know."""
    login1 = cluster.host("login1")
    login1.path("/home/alice/inside.py").write_text(INSIDE)
    python = f"exec {sys.executable} inside.py '{json.dumps(OUTER)}'"
    two_nodes = ("sbatch", "--parsable", "-N2", "-w", "compute[1-2]", "-o", "outer.out")
    outer = login1.run(*two_nodes, input=f"#!/bin/sh\n{python}\n", user="alice").stdout.strip()
    wait_for_job(cluster, outer)
    wait_until(lambda: "step-of-the-outer|COMPLETED" in steps_of(cluster, outer))
    inner, left_behind = home_file(cluster, "outer.out").splitlines()
    wait_for_job(cluster, inner)
    told = variables(home_file(cluster, "inner.env"))
    assert told.pop("SLURM_KEPT") == "of-the-outer"
    assert told["SLURM_JOB_ID"] == told["SLURM_JOBID"] == inner
    assert "of-the-outer" not in told.values()
    # What Slurm itself sets for such a job, no more and no less.
    submit = ("sbatch", "--parsable", "-o", "plain.env", "--wrap", "env")
    wait_for_job(cluster, login1.run(*submit, user="alice").stdout.strip())
    plain = variables(home_file(cluster, "plain.env"))
    assert told.keys() == plain.keys()
    assert "SLURM_JOB_ID" in left_behind
    assert "PMIX_RANK" in left_behind
    assert "of-the-outer" not in left_behind


def variables(text: str) -> dict[str, str]:
    """Those of a scheduler or of MPI."""
    pairs = (line.partition("=") for line in text.splitlines())
    ours = ("SLURM", "SBATCH", "SRUN", "PMI")
    return {name: value for name, _, value in pairs if name.startswith(ours)}


# --- accounting ---------------------------------------------------------------------------------


NOTICES = """
import sys
from smartsim_bridge import init_command_server
with init_command_server("login1", autostart=True, prelude=sys.argv[1]) as bridge:
    print(*bridge.status().notices, sep="\\n")
    print(bridge.run(["sacct"]).stderr)
"""

WITHOUT_STORAGE = """
grep -iv AccountingStorage /etc/slurm/slurm.conf > plain.conf
export SLURM_CONF=$PWD/plain.conf
"""


def test_a_head_without_accounting_is_told_at_init(cluster: Cluster) -> None:
    cluster.without_slurm("compute1")
    here = cluster.near("compute1", "alice")
    done = here.python(NOTICES, WITHOUT_STORAGE)
    assert done.returncode == 0, done.stderr
    notice, *sacct = done.stdout.splitlines()
    assert notice == (
        "sacct on login1 knows of no job: /home/alice/plain.conf asks for no accounting"
    )
    assert "storage is disabled" in "".join(sacct)  # as Slurm itself says
    assert notice in done.stderr
    assert "slurmdbd" in done.stderr


def test_of_a_head_with_accounting_nothing_is_said(cluster: Cluster) -> None:
    done = cluster.near("compute1", "alice").python(NOTICES, ":")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
