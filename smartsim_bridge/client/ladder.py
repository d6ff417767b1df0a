"""Tries the rungs in order, takes the first that proves itself, remembers why others failed.

    local    we are on the head: the server's unix socket
    direct   a beacon that we can read, or an explicit port: ZMQ over TCP, no SSH
    tunnel   SSH finds or starts the server; its ZMQ port is forwarded
    direct   again, with what SSH found out, where forwarding is forbidden
    stdio    the same SSH connection, one channel, frames to the server's unix socket

A rung holds when the server has answered our greeting through it, never because a library
says that something is up.  One SSH connection, one login, for all rungs that need it; a
second climb uses it again while it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..deadline import Deadline
from ..errors import (
    BootstrapFailed,
    CommandServerError,
    NobodyListening,
    NoCredentials,
    NoRungHeld,
    SshFailed,
    VersionMismatch,
)
from ..links.link import Link
from ..protocol.beacon import Beacon, Credentials
from ..settings import Settings
from ..stages import Journey, Stage
from . import rungs
from .beacons import Sighting, host_matches, sightings
from .dismissal import dismiss
from .endpoints import bracketed, reachable, seen_from_head
from .place import Place
from .reach import local_python, open_connection, this_host
from .status import Rung
from .steps import in_thread
from .talk import Talk

if TYPE_CHECKING:
    from ..bootstrap.ensure import Found
    from ..bootstrap.host import Host
    from ..ssh.connection import SshConnection

__all__ = ["Ascent", "climb"]

GREETING_SECONDS = 5.0  # a server that runs answers in milliseconds
PROBE_SECONDS = 3.0  # for an SSH connection that may be dead to answer


@dataclass
class Ascent:
    """A talk, how it was reached, and what must be closed after it."""

    talk: Talk
    transport: str
    rungs: tuple[Rung, ...]
    stages: tuple[Stage, ...]
    started: bool
    beneath: tuple[Any, ...] = ()
    connection: SshConnection | None = None
    found: Found | None = None  # the server, as SSH found it

    async def close(self) -> None:
        """The talk first, then tunnel and SSH connection."""
        await self.talk.close()
        await _close_all(self.beneath)


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
        await _close_all(tuple(reversed(climber.beneath)))
        raise


class _Climber:
    """One climb: what was tried, what was found, what was opened."""

    def __init__(self, settings: Settings, session: str, dismiss: bool) -> None:
        self._settings = settings
        self._session = session
        self._dismiss = dismiss
        self._place = Place.of(settings)
        self._deadline = Deadline(settings.timeout)
        self._journey = Journey(self._place.host, settings.on_stage)
        self._rungs: list[Rung] = []
        self._faults: list[CommandServerError] = []
        self._started = False
        self._connection: SshConnection | None = None
        self._found: Found | None = None
        self._former = ""  # the rung that held before
        self.beneath: list[Any] = []

    async def take_over(self, former: Ascent) -> None:
        """Keeps the SSH connection of a former climb if it still answers, and nothing else."""
        connection, former.connection = former.connection, None
        rest = tuple(one for one in former.beneath if one is not connection)
        former.beneath = ()
        await _close_all(rest)
        if connection is None:
            return
        self.beneath.append(connection)
        # What fell silent is dead: only who closed the link may still hold the connection.
        probe = Deadline(PROBE_SECONDS)
        if await in_thread(lambda: connection.answers(probe), lambda _: None):
            self._connection, self._found = connection, former.found
            self._former = former.transport
        else:
            self.beneath.remove(connection)
            await _close_all((connection,))

    async def climb(self) -> Ascent:
        talk = await self._without_ssh()
        if talk is None and self._place.needs_ssh:
            talk = await self._with_ssh()
        elif talk is None and self._settings.autostart:
            talk = await self._start_here()
        if talk is None:
            raise self._verdict()
        transport, held = talk
        return Ascent(
            held,
            transport,
            tuple(self._rungs),
            tuple(self._journey.stages),
            self._started,
            tuple(reversed(self.beneath)),
            self._connection,
            self._found,
        )

    # --- without SSH

    async def _without_ssh(self) -> tuple[str, Talk] | None:
        found = list(sightings(self._settings.state_directory))
        if self._wanted("local"):
            talk = await self._local(found)
            if talk is not None:
                return talk
        if self._wanted("direct"):
            return await self._direct(found)
        return None

    async def _local(self, found: list[Sighting]) -> tuple[str, Talk] | None:
        if not self._place.is_here:
            self._skip("local", f"{self._place.host} is another host")
            return None
        port = self._settings.port
        for one in found:
            if one.is_alive_here and (port is None or port in one.beacon.ports):
                return await self._try("local", partial(rungs.dial_local, one))
        with_port = f" with port {port}" if port else ""
        if self._settings.transport == "local" and not self._settings.autostart:
            self._faults.append(rungs.no_server_here(self._place.host + with_port))
        self._skip("local", f"no server of yours{with_port} runs here")
        return None

    async def _direct(self, found: list[Sighting]) -> tuple[str, Talk] | None:
        choices = list(self._direct_choices(found))
        if not choices:
            self._skip("direct", f"no beacon of {self._place.host} can be read here")
            return None
        for endpoint, credentials in choices:
            talk = await self._try(
                "direct", partial(rungs.dial_direct, endpoint, credentials, self._deadline)
            )
            if talk is not None:
                return talk
        return None

    def _direct_choices(self, found: list[Sighting]) -> Iterator[tuple[str, Credentials | None]]:
        host, port = self._place.host, self._settings.port
        for one in found:
            is_ours = self._place.is_here and one.is_alive_here
            if not is_ours and not host_matches(one.beacon, host):
                continue
            for endpoint in reachable(one.beacon, host):
                if port is None or endpoint.endswith(f":{port}"):
                    yield endpoint, one.credentials
                    return
        if port is not None:
            yield f"tcp://{bracketed(host)}:{port}", None

    async def _start_here(self) -> tuple[str, Talk] | None:
        """This is the head and nothing runs: start it as the bootstrap would, without SSH."""
        here = this_host(self._settings)
        found = await self._ensure(here, local_python(self._settings))
        self._started = found.started
        self._check_port(found.beacon)
        sighting = Sighting(found.beacon, found.credentials)
        if self._settings.transport == "direct":
            return await self._direct([sighting])
        return await self._try("local", lambda: rungs.dial_local(sighting))

    # --- with SSH

    async def _with_ssh(self) -> tuple[str, Talk] | None:
        if self._found is not None:
            # The server is usually still there: one look is saved.
            talk = await self._over_ssh(self._found, (self._former,))
            if talk is not None:
                return talk
        if self._connection is None:
            self._connection = await self._connect()
            self.beneath.append(self._connection)
        self._found = found = await self._find(self._connection)
        self._started = found.started
        self._check_port(found.beacon)
        return await self._over_ssh(found, ("tunnel", "direct", "stdio"))

    async def _over_ssh(self, found: Found, names: tuple[str, ...]) -> tuple[str, Talk] | None:
        connection = self._connection
        assert connection is not None
        attempts: dict[str, Callable[[], Awaitable[tuple[str, Talk] | None]]] = {
            "tunnel": lambda: self._tunnel(connection, found.beacon, found.credentials),
            "direct": lambda: self._direct_again(found.beacon, found.credentials),
            "stdio": lambda: self._stdio(connection, found.beacon),
        }
        for name in names:
            if self._wanted(name):
                talk = await attempts[name]()
                if talk is not None:
                    return talk
        return None

    async def _connect(self) -> SshConnection:
        return await in_thread(
            lambda: open_connection(self._settings, self._deadline, self._journey),
            lambda made: made.close(),
        )

    async def _find(self, connection: SshConnection) -> Found:
        try:
            return await self._ensure(connection, self._settings.python)
        except BootstrapFailed as failed:
            probe = self._deadline.within(PROBE_SECONDS)
            if await in_thread(lambda: connection.answers(probe), lambda _: None):
                raise
            # No fault of the host, and not for good: another climb may get through.
            raise SshFailed(failed.what, host=failed.host, step=failed.step) from failed

    async def _ensure(self, host: Host, python: str | None) -> Found:
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
                deadline=self._deadline,
                journey=self._journey,
            ),
            lambda _: None,
        )

    async def _tunnel(
        self, connection: SshConnection, beacon: Beacon, credentials: Credentials | None
    ) -> tuple[str, Talk] | None:
        if not beacon.endpoints:
            self._faults.append(_no_zmq(beacon))
            self._skip("tunnel", f"no ZMQ on the head: {beacon.why_no_zmq}")
            return None

        async def dial() -> Link:
            with self._journey.stage("tunnel") as note:
                tunnel, endpoint = await rungs.dial_tunnel(
                    connection,
                    seen_from_head(beacon.endpoints[0]),
                    credentials,
                    self._settings.runtime_directory,
                    self._deadline,
                )
                self.beneath.append(tunnel)
                note.detail = f"{endpoint} to {beacon.endpoints[0]}"
            assert credentials is not None  # dial_tunnel has looked
            return await rungs.connect_endpoint(endpoint, credentials, self._deadline)

        return await self._try("tunnel", dial)

    async def _direct_again(
        self, beacon: Beacon, credentials: Credentials | None
    ) -> tuple[str, Talk] | None:
        endpoints = list(reachable(beacon, self._place.host))
        if not endpoints or credentials is None:
            self._skip("direct", "the server listens on its own loopback only")
            return None
        return await self._try(
            "direct", lambda: rungs.dial_direct(endpoints[0], credentials, self._deadline)
        )

    async def _stdio(self, connection: SshConnection, beacon: Beacon) -> tuple[str, Talk] | None:
        async def dial() -> Link:
            with self._journey.stage("relay") as note:
                pipe, link = await rungs.dial_stdio(
                    connection, beacon, self._settings.prelude or "", self._deadline
                )
                self.beneath.append(pipe)
                note.detail = beacon.socket
            return link

        return await self._try("stdio", dial)

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

    # --- bookkeeping

    def _wanted(self, rung: str) -> bool:
        return self._settings.transport in ("auto", rung)

    def _skip(self, name: str, reason: str) -> None:
        self._rungs.append(Rung(name, held=False, reason=reason, tried=False))

    async def _try(self, name: str, dial: Callable[[], Awaitable[Link]]) -> tuple[str, Talk] | None:
        loop = asyncio.get_running_loop()
        began, opened = loop.time(), len(self.beneath)
        try:
            link = await dial()
            with self._journey.stage("handshake") as note:
                talk = await Talk.open(
                    link,
                    session=self._session,
                    version=__version__,
                    timeout=self._deadline.at_most(GREETING_SECONDS),
                )
                note.detail = f"server {talk.welcome.version}, pid {talk.welcome.pid}"
        except VersionMismatch:
            # It is our server, and the same one behind every other rung.
            if self._dismiss:
                await dismiss(dial, self._session)
            raise
        except CommandServerError as fault:
            self._rungs.append(
                Rung(name, held=False, reason=fault.what, seconds=loop.time() - began)
            )
            self._faults.append(fault)
            await _close_all(tuple(reversed(self.beneath[opened:])))
            del self.beneath[opened:]
            return None
        self._rungs.append(Rung(name, held=True, reason="", seconds=loop.time() - began))
        return name, talk

    def _verdict(self) -> CommandServerError:
        """The one fault that there was, else all of them."""
        if len(self._faults) == 1:
            return self._faults[0]
        if not self._faults:
            return rungs.no_server_here(self._place.host)
        reasons = tuple((rung.name, rung.reason) for rung in self._rungs)
        return NoRungHeld(
            f"No way to the server on {self._place.host}", host=self._place.host, reasons=reasons
        )


def _no_zmq(beacon: Beacon) -> CommandServerError:
    return NoCredentials(
        f"The server on {beacon.host} has no ZMQ: {beacon.why_no_zmq}",
        host=beacon.host,
        step="tunnel",
        advice='Use transport="auto" or "stdio", or install pyzmq for the head\'s Python.',
    )


async def _close_all(resources: tuple[Any, ...]) -> None:
    """Closes in the given order, in a thread: SSH may take its time."""

    def close() -> None:
        for one in resources:
            one.close()

    if not resources:
        return
    try:
        await in_thread(close, lambda _: None)
    except RuntimeError:
        close()  # the interpreter ends, and starts no thread any more: nothing else waits
