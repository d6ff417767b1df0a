"""A job script that only this host has, brought to the head on standard input.

sbatch and its like read the script themselves, on the head; one that a program here has just
written to /tmp, as dask-jobqueue does, or that lies on a laptop, is not there.  Decides from
the arguments and the file; the head is asked by whoever calls.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace

from .errand import Errand
from .families import script_index

__all__ = ["JobScript", "brought", "find_script"]

# Slurm takes 4 MB unless its administrator says otherwise; what is longer is no script.
SCRIPT_LIMIT = 16 * 1024 * 1024

# A job is named after its script's file, which one on stdin does not have; a script that
# names its job must not be overruled, and an option on the command line would do that.
_NAMING = {
    "sbatch": (r"#SBATCH\s(.*\s)?(-J|--job-name)", ("-J", "--job-name"), "--job-name={}"),
    "qsub": (r"#(\$|PBS)\s(.*\s)?-N", ("-N",), "-N {}"),
    "bsub": (r"#BSUB\s(.*\s)?-J", ("-J",), "-J {}"),
}


@dataclass(frozen=True)
class JobScript:
    """The script at `index` of an argv: its file's path on this host, and what is in it."""

    index: int
    path: str
    content: bytes


def find_script(errand: Errand) -> JobScript | None:
    """The script that a submission names, where this host has it; it may take its time."""
    index = script_index(errand.argv)
    if index is None:
        return None
    path = os.path.join(errand.directory, errand.argv[index])
    try:
        # Without waiting for whoever might write to a fifo.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(SCRIPT_LIMIT + 1)
    except OSError:
        return None
    return JobScript(index, path, content) if len(content) <= SCRIPT_LIMIT else None


def brought(errand: Errand, script: JobScript, *, has_grid_engine: bool = False) -> Errand:
    """The errand with its script on stdin, and the name of its file for the job.

    Unchanged where the scheduler has no way to give such a script its arguments.
    """
    name = os.path.basename(errand.argv[0])
    options, arguments = errand.argv[: script.index], errand.argv[script.index + 1 :]
    # What stands for the script on stdin, where its arguments follow.  In PBS, which has the
    # name qsub as well, a program would follow the dashes.
    stand_in = {"sbatch": "/dev/stdin", "qsub": "--" if has_grid_engine else ""}.get(name, "")
    if arguments and not stand_in:
        return errand
    operand = (stand_in, *arguments) if arguments else ()
    named = (*options, *_naming(name, options, script), *operand)
    return replace(errand, argv=named, input=script.content, wants_input=False)


def _naming(program: str, options: tuple[str, ...], script: JobScript) -> tuple[str, ...]:
    directive, flags, option = _NAMING[program]
    if any(one.startswith(flags) for one in options):
        return ()
    if re.search(rb"^" + directive.encode(), script.content, re.MULTILINE):
        return ()
    return tuple(one.format(os.path.basename(script.path)) for one in option.split(" "))
