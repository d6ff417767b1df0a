from __future__ import annotations

import pytest

from smartsim_bridge.protocol.environment import (
    command_environment,
    left_behind,
    of_a_login,
    sent_along,
    without_job,
)

JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_CPU_BIND": "quiet",
    "SBATCH_ACCOUNT": "a",
    "SRUN_DEBUG": "3",
    "PMI_RANK": "0",
    "PMIX_RANK": "0",
    "SMARTSIM_BRIDGE_STATE_DIR": "/s",
    "SMARTSIM_REMOTE": "login1",
}
USUAL = {"PATH": "/usr/bin", "SLURMER": "no pattern of ours", "MY_SLURM_X": "1"}


def test_server_leaves_an_enclosing_job_behind() -> None:
    assert without_job({**USUAL, **JOB}) == USUAL


def test_server_keeps_where_slurms_configuration_lies_unless_a_job_said_so() -> None:
    login = {**USUAL, "SLURM_CONF": "/opt/slurm/etc/slurm.conf", "SLURM_MEM_PER_NODE": "1"}
    assert of_a_login(login) == {**USUAL, "SLURM_CONF": "/opt/slurm/etc/slurm.conf"}
    assert of_a_login({**login, "SLURM_JOB_ID": "7"}) == USUAL


def test_caller_adds_to_the_servers_variables() -> None:
    assert command_environment("ls", {"A": "1", "B": "1"}, {"B": "2", "C": "2"}) == {
        "A": "1",
        "B": "2",
        "C": "2",
    }


@pytest.mark.parametrize("name", JOB)
def test_callers_job_stays_behind(name: str) -> None:
    assert command_environment("sbatch", USUAL, {name: "x"}) == USUAL


@pytest.mark.parametrize(
    ("keep", "passing"),
    [
        (["SLURM_JOB_ID"], {"SLURM_JOB_ID"}),
        (["SLURM_*"], {"SLURM_JOB_ID", "SLURM_CPU_BIND"}),
        (["*"], set(JOB)),
        (["slurm_job_id"], set()),
    ],
)
def test_named_variables_pass(keep: list[str], passing: set[str]) -> None:
    assert set(command_environment("sbatch", {}, JOB, keep)) == passing


@pytest.mark.parametrize("program", ["srun", "/usr/bin/srun"])
def test_srun_knows_its_allocation_and_nothing_else(program: str) -> None:
    assert command_environment(program, {}, JOB) == {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize("program", ["sbatch", "/opt/srun/sbatch", "xsrun", ""])
def test_only_srun_is_a_step_of_the_allocation(program: str) -> None:
    assert command_environment(program, {}, JOB) == {}


def test_arguments_are_left_alone() -> None:
    clean, asked = {"A": "1"}, {"B": "2"}
    command_environment("ls", clean, asked)
    assert (clean, asked) == ({"A": "1"}, {"B": "2"})


CALLER = {**USUAL, **JOB, "EDITOR": "ed"}


@pytest.mark.parametrize(
    ("program", "keep", "sent"),
    [
        ("sbatch", (), set()),
        ("srun", (), {"SLURM_JOB_ID"}),
        ("/usr/bin/srun", (), {"SLURM_JOB_ID"}),
        ("sbatch", ("SLURM_*",), {"SLURM_JOB_ID", "SLURM_CPU_BIND"}),
        ("sbatch", ("EDITOR", "PMI_RANK"), {"EDITOR", "PMI_RANK"}),
        ("srun", ("EDITOR",), {"EDITOR", "SLURM_JOB_ID"}),
    ],
)
def test_caller_sends_along_what_it_keeps(
    program: str, keep: tuple[str, ...], sent: set[str]
) -> None:
    assert set(sent_along(program, CALLER, keep)) == sent
    assert set(command_environment(program, {}, sent_along(program, CALLER, keep), keep)) == sent


OTHER_JOBS = {
    "pbs": "PBS_JOBID PBS_NODEFILE PBS_ENVIRONMENT PBS_O_WORKDIR PBS_ARRAY_INDEX PBS_ARRAYID",
    "lsf": "LSB_JOBID LSB_JOBINDEX LSB_DJOB_HOSTFILE LSB_MCPU_HOSTS LS_JOBPID JSM_NAMESPACE_RANK",
    "sge": "JOB_ID JOB_NAME NSLOTS PE_HOSTFILE QUEUE SGE_TASK_ID SGE_O_HOST SGE_JOB_SPOOL_DIR",
}
SETTINGS = [
    *("PBS_DEFAULT", "PBS_SERVER", "PBS_DPREFIX", "PBS_CONF_FILE", "OMPI_MCA_btl"),
    *("LSF_ENVDIR", "LSF_SERVERDIR", "LSB_DEFAULTQUEUE", "LSB_DEFAULTPROJECT", "LSB_BJOBS_FORMAT"),
    *("SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SQUEUE_FORMAT"),
]


@pytest.mark.parametrize("scheduler", OTHER_JOBS)
def test_a_job_of_another_scheduler_stays_behind_and_its_settings_pass(scheduler: str) -> None:
    job = OTHER_JOBS[scheduler].split()
    caller = dict.fromkeys([*job, *SETTINGS], "x")
    assert set(without_job(caller)) == set(SETTINGS)
    assert set(command_environment("qsub", {}, caller)) == set(SETTINGS)
    assert left_behind(caller) == tuple(sorted(job))


def test_a_name_that_anybody_may_use_is_a_jobs_only_inside_one() -> None:
    mine = {"JOB_NAME": "nightly", "QUEUE": "short", "NSLOTS": "4"}
    assert without_job(mine) == command_environment("qsub", {}, mine) == mine
    assert left_behind(mine) == ()
