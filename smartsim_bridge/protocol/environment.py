"""Which variables a command on the head may see.

A job that submits a job would hand its own SLURM_* and PMI* on, and the new job would
start with the settings of the old one; so they stay behind, as do the bridge's own,
unless `keep` names them.  Pure: takes and gives mappings.

Of PBS, LSF and Grid Engine only what they set for a job is meant, by their own lists: qsub(1B)
of OpenPBS and Torque, "Environment variables set for job execution" of LSF's reference, and
qsub(1) of Grid Engine.  What a user sets for their commands (PBS_DEFAULT, LSB_DEFAULTQUEUE,
SGE_CELL ...) goes along.  Of the launchers of steps only srun works from a head: pbsdsh,
blaunch, jsrun and `qrsh -inherit` speak to a daemon of the job's own host.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping

__all__ = [
    "DROPPED",
    "OURS",
    "SHIM_MARKER",
    "command_environment",
    "left_behind",
    "matches",
    "of_a_login",
    "sent_along",
    "without_job",
]

# Set by a scheduler or MPI launcher for the job that encloses the caller.
DROPPED = (
    *("SLURM_*", "SBATCH_*", "SRUN_*", "PMI*", "PMIX_*"),
    *("PBS_O_*", "PBS_ARRAY*", "PBS_ENVIRONMENT", "PBS_GPUFILE", "PBS_JOBCOOKIE", "PBS_JOBDIR"),
    *("PBS_JOBID", "PBS_JOBNAME", "PBS_MOMPORT", "PBS_NNODES", "PBS_NODEFILE", "PBS_NODENUM"),
    *("PBS_NP", "PBS_NUM_NODES", "PBS_NUM_PPN", "PBS_QUEUE", "PBS_TASKNUM", "PBS_VNODENUM"),
    *("PBS_WALLTIME", "LSB_ACCUMULATED_CPUTIME", "LSB_AFFINITY_HOSTFILE", "LSB_BATCH_JID"),
    *("LSB_BIND_*", "LSB_CHKPNT_DIR", "LSB_DJOB_*", "LSB_EEXEC_REAL_*", "LSB_EFFECTIVE_RSRCREQ"),
    *("LSB_ERRORFILE", "LSB_EXEC_CLUSTER", "LSB_EXEC_HOSTTYPE", "LSB_HOSTS", "LSB_INPUTFILE"),
    *("LSB_INTERACTIVE", "LSB_JOBEXIT_*", "LSB_JOBFILENAME", "LSB_JOBGROUP", "LSB_JOBID"),
    *("LSB_JOBINDEX*", "LSB_JOBNAME", "LSB_JOBPEND", "LSB_JOBPGIDS", "LSB_JOBPIDS"),
    *("LSB_JOB_EXECUSER", "LSB_MAX_NUM_PROCESSORS", "LSB_MCPU_HOSTS", "LSB_OUTPUTFILE"),
    *("LSB_PROJECT_NAME", "LSB_QUEUE", "LSB_RESTART*", "LSB_SUB_HOST", "LSB_SUSP_REASONS"),
    *("LSB_TRAPSIGS", "LSB_UNIXGROUP_INT", "LSB_XFJOB", "LSFUSER", "LS_EXEC_T", "LS_JOBPID"),
    *("LS_SUBCWD", "JSM_*", "SGE_ACCOUNT", "SGE_BINDING", "SGE_CKPT_*", "SGE_CWD_PATH"),
    *("SGE_JOB_SPOOL_DIR", "SGE_O_*", "SGE_STDERR_PATH", "SGE_STDIN_PATH", "SGE_STDOUT_PATH"),
    *("SGE_TASK_*",),
)
# Of a job of Grid Engine as well, but others use these names, too: they count as its own
# only beside one that nobody else has.
_GRID_ENGINE_JOB = "SGE_JOB_SPOOL_DIR"
_IN_GRID_ENGINE = (
    *("ARC", "ENVIRONMENT", "JOB_ID", "JOB_NAME", "JOB_SCRIPT", "NHOSTS", "NQUEUES", "NSLOTS"),
    *("PE", "PE_HOSTFILE", "QUEUE", "REQNAME", "REQUEST", "RESTARTED"),
)
# In every folder of shims: no command of a server is looked for there.
SHIM_MARKER = ".smartsim-bridge"
OURS = ("SMARTSIM_BRIDGE_*", "SMARTSIM_REMOTE")

# `srun` inside an allocation means a step of that allocation: it needs the job's id.
_STEP_LAUNCHERS = frozenset({"srun"})
_STEP_NEEDS = frozenset({"SLURM_JOB_ID"})


def without_job(own: Mapping[str, str]) -> dict[str, str]:
    """`own` less what belongs to an enclosing job or to the bridge."""
    unwanted = _of_a_job(own) + OURS
    return {name: value for name, value in own.items() if not matches(name, unwanted)}


def of_a_login(own: Mapping[str, str]) -> dict[str, str]:
    """What a server gives all its commands of its `own`.

    Outside a job that is also where Slurm's configuration lies, which a login or the prelude
    may say; in a job it may be a copy that only this node has.
    """
    clean = without_job(own)
    if "SLURM_CONF" in own and "SLURM_JOB_ID" not in own:
        clean["SLURM_CONF"] = own["SLURM_CONF"]
    return clean


def command_environment(
    program: str,
    clean: Mapping[str, str],
    asked: Mapping[str, str],
    keep: Iterable[str] = (),
) -> dict[str, str]:
    """The server's `clean` variables plus those `asked` for, less an enclosing job's.

    `keep` names variables of `asked`, or patterns of them ("SLURM_*"), that pass although
    they belong to an enclosing job.  For srun SLURM_JOB_ID passes as well.
    """
    allowed = tuple(keep)
    exempt = _STEP_NEEDS if _launches_step(program) else frozenset()
    unwanted = _of_a_job(asked) + OURS
    passing = {
        name: value
        for name, value in asked.items()
        if name in exempt or not matches(name, unwanted) or matches(name, allowed)
    }
    return {**clean, **passing}


def sent_along(program: str, caller: Mapping[str, str], keep: Iterable[str] = ()) -> dict[str, str]:
    """What of the `caller`'s own variables goes to the head unasked.

    Those that `keep` names, and for srun the id of the job it is typed in.  The near half
    asks this, `command_environment` is the head's last word.
    """
    allowed = tuple(keep)
    if not allowed and not _launches_step(program):
        return {}  # the usual case, and this runs for every command
    needed = _STEP_NEEDS if _launches_step(program) else frozenset()
    return {
        name: value for name, value in caller.items() if name in needed or matches(name, allowed)
    }


def left_behind(caller: Mapping[str, str], keep: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the `caller`'s variables that belong to an enclosing job and do not pass."""
    allowed, dropped = tuple(keep), _of_a_job(caller)
    return tuple(
        name for name in sorted(caller) if matches(name, dropped) and not matches(name, allowed)
    )


def _of_a_job(environ: Mapping[str, str]) -> tuple[str, ...]:
    return DROPPED + _IN_GRID_ENGINE if _GRID_ENGINE_JOB in environ else DROPPED


def _launches_step(program: str) -> bool:
    return program.rpartition("/")[2] in _STEP_LAUNCHERS


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns of a shell ("SLURM_*") means this variable."""
    return bool(patterns) and _one_of(patterns).match(name) is not None


@functools.lru_cache(maxsize=64)
def _one_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # One expression: a shim's whole environment is held against dozens of patterns.
    return re.compile("|".join(map(fnmatch.translate, patterns)))
