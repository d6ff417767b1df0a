"""A whole site in one machine: heads, compute nodes, a laptop, and the firewall between them.

    with Cluster() as cluster:
        cluster.near("laptop", "alice").connect(addr="login1", autostart=True, run=[["squeue"]])

Real sshd, real Slurm with accounting, real packets; each host is a handful of kernel
namespaces.  topology.py says which hosts there are, accounts.py who logs in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tests.support.waiting import wait_until

from .firewall import Firewall
from .host import Host
from .near_side import NearSide
from .processes import kill_account_processes
from .site import Site
from .slow_cable import Way
from .topology import HOSTS, NODES

__all__ = ["Cluster"]

SLURM_SECONDS = 60.0
QUEUE_SECONDS = 180.0  # slurmctld looks every hundred for a node that a cut has kept silent


class Cluster:
    """A running site; everything in it ends with this process, whatever becomes of that."""

    def __init__(self) -> None:
        self._site = Site()
        self.firewall = Firewall(self._site)
        self._hosts = {name: Host(place, self._site) for name, place in HOSTS.items()}
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def near(self, host: str, user: str) -> NearSide:
        """This project, used on `host` by `user`."""
        return NearSide(self.host(host), user)

    def without_slurm(self, *hosts: str) -> None:
        """Until the next reset whatever is run there finds no Slurm; jobs and daemons do."""
        for name in hosts:
            self.host(name).hide_slurm()

    @contextmanager
    def far(self, name: str, way: Way) -> Iterator[None]:
        """All that the host exchanges with the others takes this way, for as long as it lasts."""
        host = self.host(name)
        arguments = (name, str(host.pid), host.address, way.to_json())
        with subprocess.Popen(
            [*self._site.enter("-n"), *self._site.python("tests.cluster.slow_cable", *arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._site.environment,
        ) as cable:
            assert cable.stdout is not None
            assert cable.stdout.readline() == "ready\n", "no cable: see standard error"
            yield

    def reset(self) -> None:
        """As after boot: no process and no file of an account, no job, no cut, no open door."""
        self.firewall.strict()
        for host in self._hosts.values():
            if not host.is_up():
                host.reboot()
            host.show_slurm()
        # Nobody may submit a job while they are cancelled, and none may run afterwards.
        inits = {host.network: host.pid for host in self._hosts.values()}
        kill_account_processes(inits)
        self._cancel_jobs()
        kill_account_processes(inits)
        # A queue that still shows one tidied up is another one a moment later.
        wait_until(lambda: not self._jobs(), QUEUE_SECONDS)
        for host in self._hosts.values():
            host.empty_scratch()
        self._site.write_homes()

    # --- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._site.close()
        for host in self._hosts.values():
            host.bury()

    def _boot(self) -> None:
        self._site.write_homes()
        self.firewall.strict()
        for host in self._hosts.values():
            host.boot()
        for host in self._hosts.values():
            host.wait_until_ready()
        wait_until(self._nodes_are_idle, SLURM_SECONDS)

    # --- slurm ------------------------------------------------------------------------------------

    def _nodes_are_idle(self) -> bool:
        done = self.host("login1").run("sinfo", "-h", "-N", "-o", "%T", check=False)
        return done.stdout.split() == ["idle"] * len(NODES)

    def _cancel_jobs(self) -> None:
        jobs = self._jobs()
        if jobs:
            self.host("login1").run("scancel", *jobs, check=False)

    def _jobs(self) -> list[str]:
        return self.host("login1").run("squeue", "-h", "-o", "%A", check=False).stdout.split()
