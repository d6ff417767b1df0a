"""A second scheduler beside Slurm: Grid Engine, on the hosts where a test asks for it.

Its master and its commands are on login1, its daemons on the compute nodes, which have none of
the commands.  It is not started with the cluster: a shim would stand in for each command of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.waiting import wait_until

from .cluster import Cluster
from .host_init import GRID_ENGINE_COMMANDS
from .topology import NODES

__all__ = ["open_grid_engine"]

MASTER = "login1"
# What each command is a link to, by Debian's package.
WRAPPER = "/usr/share/gridengine/gridengine-wrapper"
KNOWN_MASTER = "/var/lib/gridengine/default/common/act_qmaster"
START_SECONDS = 60.0

# Makes what the package leaves to the site, and a scheduler that does not wait for its turn.
SET_UP = """
set -e
cd "$(mktemp -d)"
qconf -as login1
qconf -ah compute1,compute2
printf 'group_name @nodes\\nhostlist compute1 compute2\\n' >group
qconf -Ahgrp group
qconf -sq | sed -E '
    s/^(qname +).*/\\1all.q/
    s/^(hostlist +).*/\\1@nodes/
    s/^(slots +).*/\\18/
    s/^(load_thresholds|pe_list)( +).*/\\1\\2NONE/
' >queue
qconf -Aq queue
qconf -ssconf | sed -E '
    s/^(schedule_interval +).*/\\10:0:1/
    s/^(flush_submit_sec|flush_finish_sec)( +).*/\\1\\21/
    s/^(load_formula +).*/\\1slots/
' >scheduler
qconf -Msconf scheduler
qconf -sconf | sed '1d; s/joblog=false/& accounting_flush_time=00:00:00/' >global
qconf -Mconf global
"""


@contextmanager
def open_grid_engine(cluster: Cluster) -> Iterator[None]:
    """Runs it for as long as the block lasts; once per cluster."""
    master = cluster.host(MASTER)
    for name in (MASTER, *NODES):
        cluster.host(name).path(KNOWN_MASTER).write_text(f"{MASTER}\n", encoding="ascii")
    links = [f"/usr/bin/{command}" for command in GRID_ENGINE_COMMANDS.split()]
    master.run("sh", "-c", f'for link; do ln -s {WRAPPER} "$link"; done', "sh", *links)
    try:
        master.run("sge_qmaster")
        wait_until(lambda: not master.run("qhost", check=False).returncode, START_SECONDS)
        master.run("bash", "-c", SET_UP)
        daemons = [cluster.host(name).popen("sge_execd") for name in NODES]
        for daemon in daemons:
            assert daemon.communicate(timeout=START_SECONDS)[1] == ""
        wait_until(lambda: _are_nodes_up(cluster), START_SECONDS)
        yield
    finally:
        master.run("qconf", "-kej", check=False)
        master.run("qconf", "-ke", "all", check=False)
        master.run("qconf", "-km", check=False)
        master.run("rm", "-f", *links)


def _are_nodes_up(cluster: Cluster) -> bool:
    """Whether there is a queue on each, without the letters of a state that is not well."""
    lines = cluster.host(MASTER).run("qstat", "-f", check=False).stdout.splitlines()
    queues = [line.split() for line in lines if "@" in line]
    return len(queues) == len(NODES) and all(len(words) == 5 for words in queues)
