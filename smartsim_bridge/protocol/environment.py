"""Which variables a command on the head may see.

A job that submits a job would hand its own SLURM_* and PMI* on, and the new job would
start with the settings of the old one; so they stay behind, as do the bridge's own,
unless `keep` names them.  Pure: takes and gives mappings.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

__all__ = ["DROPPED", "command_environment", "sent_along", "without_job"]

# Set by a scheduler or MPI launcher for the job that encloses the caller.
DROPPED = ("SLURM_*", "SBATCH_*", "SRUN_*", "PMI*", "PMIX_*")
_OURS = ("SMARTSIM_BRIDGE_*", "SMARTSIM_REMOTE")

# `srun` inside an allocation means a step of that allocation: it needs the job's id.
_STEP_LAUNCHERS = frozenset({"srun"})
_STEP_NEEDS = frozenset({"SLURM_JOB_ID"})


def without_job(own: Mapping[str, str]) -> dict[str, str]:
    """`own` less what belongs to an enclosing job or to the bridge; a server does this once."""
    return {name: value for name, value in own.items() if not _matches(name, _ALL)}


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
    passing = {
        name: value
        for name, value in asked.items()
        if name in exempt or not _matches(name, _ALL) or _matches(name, allowed)
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
        name: value for name, value in caller.items() if name in needed or _matches(name, allowed)
    }


def _launches_step(program: str) -> bool:
    return program.rpartition("/")[2] in _STEP_LAUNCHERS


_ALL = DROPPED + _OURS


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
