"""Which variables a command on the head may see.

A job that submits a job would hand its own SLURM_* and PMI* on, and the new job would
start with the settings of the old one; so they stay behind, as do the bridge's own,
unless `keep` names them.  Pure: takes and gives mappings.
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
    "sent_along",
    "without_job",
]

# Set by a scheduler or MPI launcher for the job that encloses the caller.
DROPPED = ("SLURM_*", "SBATCH_*", "SRUN_*", "PMI*", "PMIX_*")
# In every folder of shims: no command of a server is looked for there.
SHIM_MARKER = ".smartsim-bridge"
OURS = ("SMARTSIM_BRIDGE_*", "SMARTSIM_REMOTE")

# `srun` inside an allocation means a step of that allocation: it needs the job's id.
_STEP_LAUNCHERS = frozenset({"srun"})
_STEP_NEEDS = frozenset({"SLURM_JOB_ID"})


def without_job(own: Mapping[str, str]) -> dict[str, str]:
    """`own` less what belongs to an enclosing job or to the bridge; a server does this once."""
    return {name: value for name, value in own.items() if not matches(name, _ALL)}


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
        if name in exempt or not matches(name, _ALL) or matches(name, allowed)
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
    allowed = tuple(keep)
    return tuple(
        name for name in sorted(caller) if matches(name, DROPPED) and not matches(name, allowed)
    )


def _launches_step(program: str) -> bool:
    return program.rpartition("/")[2] in _STEP_LAUNCHERS


_ALL = DROPPED + OURS


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns of a shell ("SLURM_*") means this variable."""
    return bool(patterns) and _one_of(patterns).match(name) is not None


@functools.lru_cache(maxsize=64)
def _one_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # One expression: a shim's whole environment is held against dozens of patterns.
    return re.compile("|".join(map(fnmatch.translate, patterns)))
