"""Puts this version's far half where a server runs, for that server to give way to it; and
pyzmq beside it, where that is wanted and the server has none.

Nothing is launched: what is done with the file is the business of the server itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import __version__
from ..deadline import Deadline
from ..errors import NoServer, ProvisionFailed
from ..protocol.beacon import Beacon
from ..stages import Journey
from .artifact import Artifact, build
from .facts import Facts
from .host import Host
from .plan import ELSEWHERE, Plan, Provide, Upload, Wish, plan
from .probe import probe
from .provision import Provision, provide
from .servers import Elsewhere, Use
from .shell import Shell
from .upload import upload

__all__ = ["Delivered", "deliver"]


@dataclass(frozen=True)
class Delivered:
    """Where it lies, the Python to run it, and where pyzmq lies if that was brought as well."""

    path: str
    python: str
    site: str = ""


def deliver(
    host: Host,
    *,
    server: tuple[str, int],
    python: str | None = None,
    prelude: str | None = None,
    provision: Provision | None = None,
    state_dir: str | None = None,
    deadline: Deadline,
    journey: Journey,
) -> Delivered:
    """Sends the far half to the state directory of `server` (host, pid), if it is not there.

    An alias may have led to another head than the server's: what is stored there is read here,
    for the directory that told us of it is shared.  Not so pyzmq, which has to fit the Python of
    the server's own head.

    Raises NoServer where that one is not to be found on `host`, ProbeFailed, UploadFailed,
    ProvisionFailed where nothing but pyzmq would have come of it, and what `host.open_stdio`
    raises.
    """
    artifact = build()
    target = host.target
    wish = Wish(target.spelled, artifact.name, False, names=target.names, sought=server)
    with Shell(host, prelude=prelude or "", deadline=deadline) as shell:
        errand = _Errand(shell, artifact, state_dir or "", deadline, journey)
        facts = errand.probe()
        found = plan(facts, wish)
        beacon = _sought(found, server, wish.spelled)
        # Another head would not see what lies on this one.
        places = [beacon.state_dir]
        if isinstance(found, Use):
            places += [f"{place}/smartsim-bridge-{facts.uid}" for place in ELSEWHERE]
        runs = python or beacon.python
        path, site = errand.far_half(facts, beacon.python, tuple(places)), ""
        lacks_zmq = not beacon.zmq or runs != beacon.python
        if provision is not None and lacks_zmq:
            try:
                _check_head(beacon, facts, wish.spelled)
                site = errand.site(runs, path, tuple(places), provision)
            except ProvisionFailed:
                if provision.is_vital or beacon.version == __version__:
                    raise
    return Delivered(path, runs, site)


def _sought(found: Plan, server: tuple[str, int], spelled: str) -> Beacon:
    assert isinstance(found, (Use, Elsewhere))  # without autostart there is no other plan
    beacon = found.beacon if isinstance(found, Use) else found.servers[0].beacon
    if (beacon.host, beacon.pid) != server:
        # An alias may stand for several hosts, and lead to another one each time.
        raise NoServer(
            f"The login ended at {beacon.host}, whose server is process {beacon.pid}; "
            f"the one to be replaced is process {server[1]} of {server[0]}",
            host=spelled,
            step="replace",
        )
    return beacon


def _check_head(beacon: Beacon, facts: Facts, spelled: str) -> None:
    if beacon.host != facts.host:
        raise ProvisionFailed(
            f"The login ended at {facts.host}, and pyzmq is to fit the Python of {beacon.host}",
            host=spelled,
            step="provision",
            advice=f'Name the head of your server, addr="{beacon.host}".',
        )


@dataclass(frozen=True)
class _Errand:
    """What the steps of one call share."""

    shell: Shell
    artifact: Artifact
    state_dir: str
    deadline: Deadline
    journey: Journey

    def probe(self, python: str = "") -> Facts:
        return probe(
            self.shell,
            python=python,
            state_dir=self.state_dir,
            artifact=self.artifact.name,
            size=self.artifact.size,
            search=bool(python),
            journey=self.journey,
        )

    def far_half(self, facts: Facts, python: str, places: tuple[str, ...]) -> str:
        path = f"{places[0]}/far/{self.artifact.name}"
        if path in facts.artifacts:
            return path
        step = Upload(python, self.artifact.name, places)
        return upload(self.shell, step, self.artifact, journey=self.journey)

    def site(self, python: str, path: str, places: tuple[str, ...], provision: Provision) -> str:
        """Where that Python finds pyzmq; nothing where it has one of its own by now."""
        pythons = self.probe(python).pythons
        if not pythons:
            raise ProvisionFailed(f"{python} is not there", host=self.shell.host, step="provision")
        if pythons[0].zmq:
            return pythons[0].site
        return provide(
            self.shell,
            Provide(pythons[0], places),
            path,
            cache=provision.cache,
            deadline=self.deadline,
            journey=self.journey,
        )
