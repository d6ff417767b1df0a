"""Finds the user's server on a head, or puts one there: probe, plan, upload, provide, launch.

The only room that knows the order.  It may be called at any time and by any number of
clients at once: the far half is stored atomically under a name of its own, and the server
itself sees to it that there is one.  Used by `client`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..deadline import Deadline
from ..errors import LaunchFailed, ProvisionFailed
from ..protocol.beacon import Beacon, Credentials
from ..stages import Journey
from .artifact import Artifact, build
from .facts import Facts
from .host import Host
from .launch import launch
from .plan import (
    LookAgain,
    Provide,
    Start,
    Wish,
    in_next_directory,
    plan,
    sent_again,
    stored_at,
)
from .probe import probe
from .provision import Provision, provide
from .servers import Elsewhere, Use
from .shell import Shell
from .upload import upload

__all__ = ["Found", "ensure_server", "find_server"]


@dataclass(frozen=True)
class Found:
    """A server that runs.  `started` tells whether it is this very call that started it.

    It may run on another head than `facts` are about: then `elsewhere` holds it, and whichever
    others would do as well, and nobody has tried whether they can be reached.  `unprovided` is
    why pyzmq was wanted and could not be brought.
    """

    beacon: Beacon
    credentials: Credentials | None
    started: bool
    facts: Facts = field(repr=False)
    elsewhere: tuple[Use, ...] = ()
    unprovided: ProvisionFailed | None = None


def ensure_server(
    host: Host,
    *,
    autostart: bool = True,
    python: str | None = None,
    prelude: str | None = None,
    state_dir: str | None = None,
    port: int | None = None,
    provision: Provision | None = None,
    poll_cache: float = 0.0,
    sought: tuple[str, int] | None = None,
    alone: bool = False,
    deadline: Deadline,
    journey: Journey,
) -> Found:
    """The user's server on `host`, started if none runs and `autostart` allows it.

    Where no name of the target is the host's own, it may stand for several heads, and a server
    on another one is found as well, unless `alone` forbids it.  `sought` (host, pid) is the
    server that comes before all others.

    Raises ProbeFailed, NoServer, NoUsablePython, UploadFailed, ProvisionFailed (if that is
    vital: no server was started then) or LaunchFailed, and what `host.open_stdio` raises.
    """
    artifact = build()
    wish = Wish(
        spelled=host.target.spelled,
        artifact=artifact.name,
        autostart=autostart,
        python=python or "",
        port=port or 0,
        provision=provision is not None,
        poll_cache=poll_cache,
        names=host.target.names,
        sought=sought,
        alone=alone,
    )
    with Shell(host, prelude=prelude or "", deadline=deadline) as shell:
        errand = _Errand(shell, artifact, wish, state_dir or "", provision, deadline, journey)
        facts, decided = errand.decide()
        if isinstance(decided, Use):
            return Found(decided.beacon, decided.credentials, started=False, facts=facts)
        if isinstance(decided, Elsewhere):
            best, servers = decided.servers[0], decided.servers
            return Found(best.beacon, best.credentials, False, facts, elsewhere=servers)
        return errand.start(decided, facts)


def find_server(
    host: Host,
    *,
    prelude: str | None = None,
    state_dir: str | None = None,
    deadline: Deadline,
    journey: Journey,
) -> Found:
    """The user's server on `host`.  Raises NoServer where none runs; changes nothing there."""
    return ensure_server(
        host,
        autostart=False,
        prelude=prelude,
        state_dir=state_dir,
        deadline=deadline,
        journey=journey,
    )


@dataclass(frozen=True)
class _Errand:
    """What the steps of one call share."""

    shell: Shell
    artifact: Artifact
    wish: Wish
    state_dir: str
    provision: Provision | None
    deadline: Deadline
    journey: Journey

    def decide(self) -> tuple[Facts, Use | Elsewhere | Start]:
        facts = self.probe()
        decided = plan(facts, self.wish)
        if isinstance(decided, LookAgain):
            facts = self.probe(search=True)
            decided = plan(facts, self.wish)
        assert not isinstance(decided, LookAgain)  # a probe that searched leaves nothing open
        return facts, decided

    def probe(self, *, search: bool = False) -> Facts:
        return probe(
            self.shell,
            python=self.wish.python,
            state_dir=self.state_dir,
            artifact=self.artifact.name,
            size=self.artifact.size,
            search=search,
            journey=self.journey,
        )

    def start(self, decided: Start, facts: Facts) -> Found:
        unprovided = None
        is_unchecked = decided.upload is None  # found there, by name and size only
        while True:
            if decided.upload is not None:
                path = upload(self.shell, decided.upload, self.artifact, journey=self.journey)
                decided = stored_at(decided, path, facts)
            if decided.provide is not None and self.provision is not None:
                decided, unprovided = self.provide(decided, decided.provide, self.provision)
            try:
                beacon, credentials, started = launch(
                    self.shell, decided.launch, journey=self.journey
                )
            except LaunchFailed as failed:
                # What can be read may be full, or another's: only the server finds out.
                following = in_next_directory(decided, facts)
                if following is not None and decided.launch.state_dir in failed.what:
                    decided = following
                elif is_unchecked and not self.shell.deadline.is_over:
                    # A disk may have damaged what lies there; what arrives is checked.
                    decided = sent_again(decided)
                else:
                    raise
                is_unchecked = False
            else:
                return Found(beacon, credentials, started, facts, unprovided=unprovided)

    def provide(
        self, decided: Start, step: Provide, provision: Provision
    ) -> tuple[Start, ProvisionFailed | None]:
        """The rest of it, and why the server has to do without."""
        rest = replace(decided, provide=None)
        try:
            site = provide(
                self.shell,
                step,
                decided.launch.path,
                cache=provision.cache,
                deadline=self.deadline,
                journey=self.journey,
            )
        except ProvisionFailed as failed:
            if provision.is_vital or self.deadline.is_over:  # a launch would only say the latter
                raise
            return rest, failed
        return replace(rest, launch=replace(rest.launch, site=site)), None
