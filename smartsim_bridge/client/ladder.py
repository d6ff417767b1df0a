"""Tries the rungs in order, takes the first that proves itself, remembers why others failed.

    local    we are on the head: the server's unix socket
    direct   a beacon that we can read, or an explicit port: ZMQ over TCP, no SSH
    tunnel   SSH finds or starts the server; its ZMQ port is forwarded
    direct   again, with what SSH found out, where forwarding is forbidden
    stdio    the same SSH connection, one channel, frames to the server's unix socket

Where SSH leads to one head and the user's server runs on another one of the same alias, tunnel,
direct and stdio go there, from the head where the login ended.

A rung holds when the server has answered our greeting through it, never because a library
says that something is up.  One SSH connection, one login, for all rungs that need it; a
second climb uses it again while it lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..bootstrap.neighbours import seniority
from ..bootstrap.servers import of_session, servers_anywhere
from ..deadline import Deadline
from ..errors import (
    BootstrapFailed,
    CommandServerError,
    NobodyListening,
    NoServer,
    PeerSilent,
    ServerElsewhere,
    SshFailed,
)
from ..protocol.beacon import Beacon, Credentials
from ..settings import Settings
from ..stages import Journey, Stage
from . import rungs
from .attempts import Attempts, close_all
from .beacons import Sighting, host_matches, sightings
from .endpoints import bracketed, reachable
from .place import Place
from .reach import local_python, open_connection, provision, this_host
from .status import Rung
from .steps import in_thread
from .talk import Talk
from .ways import ALL_WAYS, Ways, does_not_answer

if TYPE_CHECKING:
    from ..bootstrap.ensure import Found
    from ..bootstrap.host import Host
    from ..ssh.engine import Connection

__all__ = ["Ascent", "climb"]

PROBE_SECONDS = 3.0  # for an SSH connection that may be dead to answer
MOST_DIRECT, MOST_NEIGHBOURS = 3, 3  # servers that are tried of those a beacon tells of

Held = tuple[str, Talk]  # the rung that held, and the talk over it


@dataclass
class Ascent:
    """A talk, how it was reached, and what must be closed after it."""

    talk: Talk
    transport: str
    rungs: tuple[Rung, ...]
    stages: tuple[Stage, ...]
    started: bool
    beneath: tuple[Any, ...] = ()
    connection: Connection | None = None
    found: Found | None = None  # the server, as SSH found it
    others: tuple[str, ...] = ()  # further servers of the user, on other heads

    async def close(self) -> None:
        """The talk first, then tunnel and SSH connection."""
        await self.talk.close()
        await close_all(self.beneath)


async def climb(
    settings: Settings, session: str, former: Ascent | None = None, *, dismiss: bool = False
) -> Ascent:
    """A talk for the session of that name.  `former` is the ascent whose link was lost.

    Raises the CommandServerError of the rung that matters, or NoRungHeld with all.  With
    `dismiss` a server of another protocol is ended, and talk.WishGranted raised.
    """
    climber = _Climber(settings, session, dismiss)
    try:
        if former is not None:
            await climber.take_over(former)
        return await climber.climb()
    except BaseException:
        await close_all(tuple(reversed(climber.attempts.beneath)))
        raise


class _Climber:
    """One climb: what was found, and what is tried next."""

    def __init__(self, settings: Settings, session: str, dismiss: bool) -> None:
        self._settings = settings
        self._place = Place.of(settings)
        self._deadline = Deadline(settings.timeout)
        self._journey = Journey(self._place.host, settings.on_stage)
        self.attempts = Attempts(
            settings, session, self._place.host, self._deadline, self._journey, dismiss=dismiss
        )
        self._started = False
        self._connection: Connection | None = None
        self._found: Found | None = None
        self._seen: list[Sighting] = []  # by beacons that can be read here
        self._former = ""  # the rung that held before
        self._sought: tuple[str, int] | None = None  # host and pid of the server before

    async def take_over(self, former: Ascent) -> None:
        """Keeps the SSH connection of a former climb if it still answers, and nothing else."""
        welcome = former.talk.welcome
        self._sought = welcome.host, welcome.pid
        connection, former.connection = former.connection, None
        rest = tuple(one for one in former.beneath if one is not connection)
        former.beneath = ()
        await close_all(rest)
        if connection is None:
            return
        self.attempts.beneath.append(connection)
        # What fell silent is dead: only who closed the link may still hold the connection.
        probe = Deadline(PROBE_SECONDS)
        if await in_thread(lambda: connection.answers(probe), lambda _: None):
            self._connection, self._found = connection, former.found
            self._former = former.transport
        else:
            self.attempts.beneath.remove(connection)
            await close_all((connection,))

    async def climb(self) -> Ascent:
        held = await self._without_ssh()
        if held is None and self._place.needs_ssh:
            held = await self._with_ssh()
        elif held is None and self._settings.autostart:
            held = await self._start_here()
        if held is None:
            raise self._verdict()
        transport, talk = held
        return Ascent(
            talk,
            transport,
            tuple(self.attempts.rungs),
            tuple(self._journey.stages),
            self._started,
            tuple(reversed(self.attempts.beneath)),
            self._connection,
            self._found,
            self._others(talk),
        )

    def _verdict(self) -> CommandServerError:
        fault = self.attempts.verdict()
        others = [one.beacon for one in self._seen if one.is_fresh and not one.is_alive_here]
        if isinstance(fault, NoServer) and others:
            hosts = ", ".join(f"{one.host} (pid {one.pid})" for one in others)
            advice = (
                "Name the head that you mean, or start one here with autostart=True or "
                "`smartsim-bridge start`."
            )
            what = f"{fault.what}; servers of yours run on {hosts}"
            return NoServer(what, host=fault.host, step=fault.step, advice=advice)
        return fault

    # --- without SSH

    async def _without_ssh(self) -> Held | None:
        self._seen = sorted(sightings(self._settings.state_directory), key=self._rank)
        if self.attempts.wants("local"):
            held = await self._local()
            if held is not None:
                return held
        if self.attempts.wants("direct"):
            return await self._direct(self._seen)
        return None

    def _rank(self, one: Sighting) -> tuple[bool, bool, tuple[float, str]]:
        """Less is better.  Commands belong to one server: after a lost link that one is first.

        Then it is the order in which a login through an alias chooses, see bootstrap.servers.
        """
        beacon = one.beacon
        is_another = (beacon.host, beacon.pid) != self._sought
        return is_another, not one.is_fresh, seniority(beacon)

    async def _local(self) -> Held | None:
        if not self._place.is_here:
            self.attempts.skip("local", f"{self._place.host} is another host")
            return None
        port = self._settings.port
        for one in self._seen:
            if one.is_alive_here and (port is None or port in one.beacon.ports):
                return await self._dial_local(one)
        with_port = f" with port {port}" if port else ""
        if self._settings.transport == "local" and not self._settings.autostart:
            self.attempts.faults.append(rungs.no_server_here(self._place.host + with_port))
        self.attempts.skip("local", f"no server of yours{with_port} runs here")
        return None

    async def _dial_local(self, server: Sighting) -> Held | None:
        held = await self.attempts.take("local", partial(rungs.dial_local, server))
        if held is None and isinstance(self.attempts.faults[-1], PeerSilent):
            raise does_not_answer(server.beacon)
        return held

    async def _direct(self, seen: list[Sighting]) -> Held | None:
        choices = list(self._direct_choices(seen))[:MOST_DIRECT]
        if not choices:
            self.attempts.skip("direct", f"no beacon of {self._place.host} can be read here")
            return None
        for endpoint, credentials in choices:
            if credentials is not None:
                self.attempts.knocked.add((endpoint, credentials.server_key))
            held = await self.attempts.take(
                "direct", partial(rungs.dial_direct, endpoint, credentials, self._deadline)
            )
            if held is not None:
                return held
        return None

    def _direct_choices(self, seen: list[Sighting]) -> Iterator[tuple[str, Credentials | None]]:
        """One endpoint of each server: a second address of one that is gone leads nowhere."""
        host, port = self._place.host, self._settings.port
        is_known = False
        for one in seen:
            is_ours = self._place.is_here and one.is_alive_here
            if not is_ours and not host_matches(one.beacon, host):
                continue
            for endpoint in reachable(one.beacon, host):
                if port is None or endpoint.endswith(f":{port}"):
                    is_known = True
                    yield endpoint, one.credentials
                    break
        if port is not None and not is_known:
            yield f"tcp://{bracketed(host)}:{port}", None

    async def _start_here(self) -> Held | None:
        """This is the head and nothing runs: start it as the bootstrap would, without SSH."""
        here = this_host(self._settings)
        found = await self._ensure(here, local_python(self._settings))
        self._started = found.started
        self._check_port(found.beacon)
        sighting = Sighting(found.beacon, found.credentials)
        if self._settings.transport == "direct":
            return await self._direct([sighting])
        return await self._dial_local(sighting)

    # --- with SSH

    async def _with_ssh(self) -> Held | None:
        if self._found is not None:
            # The server is usually still there: one look is saved.
            held = await self._over_ssh(self._found, (self._former,))
            if held is not None:
                return held
        if self._connection is None:
            self._connection = await self._connect()
            self.attempts.beneath.append(self._connection)
        self._found = found = await self._find(self._connection)
        held = await self._over_ssh(found, ALL_WAYS)
        if held is None and found.elsewhere:
            self._found = found = await self._find_here(self._connection, found)
            held = await self._over_ssh(found, ALL_WAYS)
        return held

    async def _over_ssh(self, found: Found, names: tuple[str, ...]) -> Held | None:
        assert self._connection is not None
        ways = Ways(
            self._connection,
            self._settings,
            self._place.host,
            self.attempts,
            elsewhere=bool(found.elsewhere),
            unprovided=found.unprovided,
        )
        if not found.elsewhere:
            self._started = found.started
            self._check_port(found.beacon)
            return await ways.to(Sighting(found.beacon, found.credentials), names)
        # What was found by an earlier climb may hold others besides: they know no commands of ours.
        servers = of_session(found.elsewhere, self._sought) or found.elsewhere
        for one in servers[:MOST_NEIGHBOURS]:
            held = await ways.to(Sighting(one.beacon, one.credentials), names)
            if held is not None:
                return held
        return None

    async def _connect(self) -> Connection:
        return await in_thread(
            lambda: open_connection(self._settings, self._deadline, self._journey),
            lambda made: made.close(),
        )

    async def _find(self, connection: Connection, *, alone: bool = False) -> Found:
        try:
            return await self._ensure(connection, self._settings.python, alone=alone)
        except BootstrapFailed as failed:
            probe = self._deadline.within(PROBE_SECONDS)
            if await in_thread(lambda: connection.answers(probe), lambda _: None):
                raise
            # No fault of the host, and not for good: another climb may get through.
            raise SshFailed(failed.what, host=failed.host, step=failed.step) from failed

    async def _find_here(self, connection: Connection, before: Found) -> Found:
        """A server on the very head where the login ended, for those elsewhere are out of reach.

        Raises ServerElsewhere where none may be started here, or a session is with one of them.
        """
        servers = [one.beacon for one in before.elsewhere]
        fault = self._out_of_reach(servers[0], before.facts.host)
        if self._sought in [(one.host, one.pid) for one in servers]:
            raise fault
        try:
            return await self._find(connection, alone=True)
        except NoServer:
            raise fault from None

    def _out_of_reach(self, beacon: Beacon, landed: str) -> ServerElsewhere:
        tried = [rung for rung in self.attempts.rungs if rung.tried and rung.reason]
        reasons = "".join(f"\n  {rung.name} {rung.reason}" for rung in tried)
        return ServerElsewhere(
            f"Your server runs on {beacon.host}, pid {beacon.pid}; the login as "
            f"{self._place.host} ended at {landed}, from where it cannot be reached{reasons}\n",
            host=landed,
            step="neighbours",
            advice=f'Name that head, addr="{beacon.host}", or start a server on {landed} with '
            "autostart=True or `smartsim-bridge start`.",
        )

    async def _ensure(self, host: Host, python: str | None, *, alone: bool = False) -> Found:
        from ..bootstrap.ensure import ensure_server

        settings = self._settings
        return await in_thread(
            lambda: ensure_server(
                host,
                autostart=settings.autostart,
                python=python,
                prelude=settings.prelude,
                state_dir=settings.state_dir or None,
                port=settings.port,
                provision=provision(settings),
                poll_cache=settings.poll_cache,
                sought=self._sought,
                alone=alone,
                deadline=self._deadline,
                journey=self._journey,
            ),
            lambda _: None,
        )

    def _check_port(self, beacon: Beacon) -> None:
        port = self._settings.port
        if port is not None and beacon.ports and port not in beacon.ports:
            raise NobodyListening(
                f"Your server on {beacon.host} (pid {beacon.pid}) listens on "
                f"{', '.join(map(str, beacon.ports))}, not on port {port}",
                host=beacon.host,
                step="port",
                advice="Leave port out to use that server, or stop it first.",
            )

    def _others(self, talk: Talk) -> tuple[str, ...]:
        """Servers on other heads, by their beacons: whether they answer has not been tried."""
        beacons = [one.beacon for one in self._seen if one.is_fresh or one.is_alive_here]
        if self._found is not None:
            beacons += servers_anywhere(self._found.facts)
        hosts = {one.host: f"{one.host}, pid {one.pid}, version {one.version}" for one in beacons}
        hosts.pop(talk.welcome.host, None)
        return tuple(hosts[host] for host in sorted(hosts))
