"""Which commands hand a job to a scheduler, and so must come through though nobody waits.

Ended half-way, such a command leaves a user who cannot know whether his job was taken.
Those that hold an allocation or a step for as long as they live (salloc, srun) are not
among them: they end with whoever wanted them, unless he lets go of them.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SUBMITTERS", "submits"]

SUBMITTERS = frozenset({"sbatch", "qsub", "bsub"})  # Slurm; PBS and Grid Engine; LSF


def submits(argv: Sequence[str], shell: bool = False) -> bool:
    """Whether a command submits a job, by the name of its program."""
    program = argv[0] if argv else ""
    if shell:
        program = program.split(maxsplit=1)[0] if program.split() else ""
    return program.rpartition("/")[2] in SUBMITTERS
