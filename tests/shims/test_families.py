from __future__ import annotations

import pytest

from smartsim_bridge.protocol.polls import POLLS
from smartsim_bridge.protocol.submission import SUBMITTERS
from smartsim_bridge.shims.families import (
    FAMILIES,
    SCHEDULER_COMMANDS,
    script_index,
    wants_input,
)


def test_no_launcher_of_mpi_is_among_them() -> None:
    launchers = {"mpirun", "mpiexec", "aprun", "jsrun", "prun", "orterun"}
    assert not launchers & SCHEDULER_COMMANDS


def test_each_family_has_what_submits_asks_and_ends() -> None:
    names = {"slurm": "sbatch squeue scancel", "lsf": "bsub bjobs bkill"}
    for family, commands in FAMILIES.items():
        assert set(names.get(family, "qsub qstat qdel").split()) <= commands
    assert SUBMITTERS <= SCHEDULER_COMMANDS


@pytest.mark.parametrize("name", POLLS)
def test_what_only_asks_reads_nothing(name: str) -> None:
    """Polls are told apart by the protocol, since the server must know them, too."""
    assert name in SCHEDULER_COMMANDS
    argv = [name, *POLLS[name].verbs[:1], "x"]
    assert not wants_input(argv)
    assert script_index(argv) is None


@pytest.mark.parametrize(
    "line",
    [
        "sbatch", "sbatch -N 2", "sbatch --job-name x", "sbatch --job-name=x", "sbatch --",
        "sbatch -vvN2 -t 10", "sbatch --exclusive", "srun cat", "srun -n 2 --label cat",
        "srun -i all cat", "srun -i 0 cat", "salloc -N 1", "salloc cat", "scancel -i 3",
        "scontrol", "scontrol show hostlist -", "sacctmgr delete user x", "sattach 3.0",
        "scrontab", "scrontab -", "qsub", "qsub -N x", "qsub -", "qsub -pe smp 4", "qsub -I",
        "qsub -I -l select=1", "qmgr", "qrsh", "qlogin", "bsub", "bsub -n 4", "bsub -Is bash",
        "mystery",
    ],
)  # fmt: skip
def test_what_reads_its_input_is_given_it(line: str) -> None:
    assert wants_input(line.split())
    assert script_index(line.split()) is None


@pytest.mark.parametrize(
    "line",
    [
        "sbatch job.sh", "sbatch --wrap hostname", "sbatch --wrap=hostname", "sbatch --wr hostname",
        "sbatch --version", "sbatch -h", "srun --version", "srun --input none cat",
        "srun --input=none cat", "srun -inone cat", "srun -i file cat", "salloc --no-shell -N 1",
        "scancel 3", "qsub job.sh", "qsub -- /bin/true", "qsub -b y /bin/true", "qdel 3",
        "scontrol show job 3", "scontrol -o show nodes", "scontrol -M a,b show job 1",
        "scontrol update job=1 x=y", "sacctmgr -n show user", "qconf -sql", "bsub sleep 3",
        "bkill 3", "scrontab -l", "sbcast a b",
    ],
)  # fmt: skip
def test_what_does_not_read_leaves_it_to_others(line: str) -> None:
    assert not wants_input(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "sbatch JOB", "sbatch JOB -N 2 --wrap x", "sbatch -N2 -n 4 -J name JOB a b",
        "sbatch --parsable JOB", "sbatch --nodes 2 --exclusive --time=10 JOB",
        "sbatch --export ALL,A=b --requeue JOB", "sbatch -Hvv -o out -t 1:00 -- JOB",
        "sbatch -s -O -W JOB", "sbatch --hold --nice --test-only JOB", "sbatch --no-kill JOB",
        "sbatch -d afterok:1 --kill-on-invalid-dep yes JOB", "/usr/bin/sbatch JOB",
        "qsub JOB", "qsub -N x -q q -V JOB a", "qsub -joe -lselect=2 JOB", "qsub -j oe JOB",
        "qsub -cwd -j y -pe smp 4 -l h_rt=60 JOB", "qsub -terse -t 1-10 -tc 2 JOB", "qsub -h JOB",
        "qsub -hold_jid 3 -b n JOB", "qsub -W block=true -m abe JOB", "bsub -n 4 -J x JOB",
        "bsub -K -o out JOB",
    ],
)  # fmt: skip
def test_the_script_is_found_behind_its_options(line: str) -> None:
    argv = line.split()
    assert script_index(argv) == argv.index("JOB")
    assert not wants_input(argv)


@pytest.mark.parametrize(
    "line", ["srun job.sh", "bsub sleep 3", "qsub -b y sleep 3", "qsub -- sleep 3", "squeue job.sh"]
)
def test_a_program_is_no_script(line: str) -> None:
    assert script_index(line.split()) is None
