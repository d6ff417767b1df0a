"""A parameter sweep as one Slurm job array, from a host that has no Slurm.

    python submitit_sweep.py login1

submitit writes what is to be called into a directory that the compute nodes see, calls sbatch,
and asks sacct how it stands.
"""

from __future__ import annotations

import sys
from pathlib import Path

import submitit

from smartsim_bridge import init_command_server


def energy(temperature: float) -> float:
    return 1.5 * temperature


def main(head: str) -> None:
    with init_command_server(addr=head, autostart=True):
        # In the shared home: what a job is to do, its log and its result lie there.
        executor = submitit.AutoExecutor(folder=Path.home() / "sweep")
        print("scheduler:", executor.cluster)
        executor.update_parameters(timeout_min=5, slurm_array_parallelism=2)
        temperatures = [100.0, 200.0, 300.0]
        jobs = executor.map_array(energy, temperatures)
        print("jobs:", *(job.job_id for job in jobs))
        for temperature, job in zip(temperatures, jobs):
            print(f"{temperature:g} K: {job.result():g}")
        print("states:", *sorted({job.state for job in jobs}))


if __name__ == "__main__":
    main(sys.argv[1])
