"""A scheduler of a few lines, which only a server's commands find: the head's own programs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_scheduler"]

_PROGRAMS = {
    # Says that it ran, and holds its answer back while there is a file `hold` beside it.
    "squeue": 'echo run >> "$here/squeue.runs"; while [ -e "$here/hold" ]; do sleep 0.02; done\n'
    'echo "JOBID $*"\n',
    "sacct": 'if [ -e "$here/broken" ]; then echo "sacct: error: no storage" >&2; exit 1; fi\n'
    'if [ -e "$here/stopped" ]; then kill -TERM $$; fi\n',
    # What it was given, where, and with which variables of a job.
    "sbatch": 'echo "args: $*"; echo "cwd: $PWD"; env | grep "^[A-Z]*_*OUTER\\|^SLURM" | sort\n'
    'for one; do [ -r "$one" ] && { echo "script:"; cat "$one"; }; done; cat; exit 0\n',
    # Runs what follows the options, here.
    "srun": 'while case $1 in -*) :;; *) false;; esac; do shift; done; exec "$@"\n',
}


def make_scheduler(directory: Path) -> Path:
    """Programs of Slurm's names in `directory`, to be put first on a server's PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in _PROGRAMS.items():
        file = directory / name
        file.write_text(f'#!/bin/sh\nhere="{directory}"\n{text}', "utf-8")
        file.chmod(0o755)
    return directory
