"""Dask workers as Slurm jobs, from a host that has no Slurm.

    python dask_jobqueue_cluster.py login1

dask-jobqueue calls sbatch and scancel; both are carried out on the head.  Run it where the
workers can connect to: on a compute node.
"""

from __future__ import annotations

import sys
import time

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

from smartsim_bridge import init_command_server


def square(number: int) -> int:
    return number * number


def main(head: str) -> None:
    with init_command_server(addr=head, autostart=True):
        cluster = SLURMCluster(cores=1, memory="256 MiB", walltime="00:10:00")
        with cluster, Client(cluster) as client:
            cluster.adapt(minimum_jobs=0, maximum_jobs=2, interval="500 ms", wait_count=2)
            futures = client.map(square, range(10))  # nothing runs yet: this brings a worker
            print("sum:", client.submit(sum, futures).result())
            print("workers:", len(cluster.scheduler_info["workers"]))
            del futures  # with nothing to do the workers go
            while client.scheduler_info()["workers"]:
                time.sleep(0.2)
        # What is left at the end of the block is cancelled with scancel.
    print("scaled down")


if __name__ == "__main__":  # dask may import this file again
    main(sys.argv[1])
