"""Puts this version's far half where a server runs, for that server to give way to it.

Nothing is launched: what is done with the file is the business of the server itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..deadline import Deadline
from ..errors import NoServer
from ..stages import Journey
from .artifact import build
from .host import Host
from .plan import ELSEWHERE, Elsewhere, Upload, Use, Wish, plan
from .probe import probe
from .shell import Shell
from .upload import upload

__all__ = ["Delivered", "deliver"]


@dataclass(frozen=True)
class Delivered:
    """Where it lies, and the Python that runs the server there."""

    path: str
    python: str


def deliver(
    host: Host,
    *,
    server: tuple[str, int],
    prelude: str | None = None,
    state_dir: str | None = None,
    deadline: Deadline,
    journey: Journey,
) -> Delivered:
    """Sends the far half to the state directory of `server` (host, pid), if it is not there.

    An alias may have led to another head than the server's: what is stored there is read here,
    for the directory that told us of it is shared.

    Raises NoServer where that one is not to be found on `host`, ProbeFailed, UploadFailed, and
    what `host.open_stdio` raises.
    """
    artifact = build()
    target = host.target
    wish = Wish(target.spelled, artifact.name, False, names=target.names, sought=server)
    with Shell(host, prelude=prelude or "", deadline=deadline) as shell:
        facts = probe(
            shell,
            python="",
            state_dir=state_dir or "",
            artifact=artifact.name,
            size=artifact.size,
            search=False,
            journey=journey,
        )
        found = plan(facts, wish)
        assert isinstance(found, (Use, Elsewhere))  # without autostart there is no other plan
        beacon = found.beacon if isinstance(found, Use) else found.servers[0].beacon
        if (beacon.host, beacon.pid) != server:
            # An alias may stand for several hosts, and lead to another one each time.
            raise NoServer(
                f"The login ended at {beacon.host}, whose server is process {beacon.pid}; "
                f"the one to be replaced is process {server[1]} of {server[0]}",
                host=wish.spelled,
                step="replace",
            )
        path = f"{beacon.state_dir}/far/{artifact.name}"
        if path not in facts.artifacts:
            directories = [beacon.state_dir]
            if isinstance(found, Use):  # another head would not see these
                directories += [f"{place}/smartsim-bridge-{facts.uid}" for place in ELSEWHERE]
            step = Upload(beacon.python, artifact.name, tuple(directories))
            path = upload(shell, step, artifact, journey=journey)
    return Delivered(path, beacon.python)
