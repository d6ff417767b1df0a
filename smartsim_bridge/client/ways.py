"""The ways to one server over an SSH connection that is open: tunnel, direct, stdio.

The server runs on the head where the login ended, or on another one that shares its home.
Knows nothing of how either was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..deadline import Deadline
from ..errors import CommandServerError, NoCredentials, PeerSilent
from ..links.link import Link
from ..protocol.beacon import Beacon
from ..settings import Settings
from . import rungs
from .attempts import GREETING_SECONDS, Attempts
from .beacons import Sighting
from .endpoints import forwarded, reachable
from .steps import in_thread
from .talk import Talk

if TYPE_CHECKING:
    from ..ssh.engine import Connection

__all__ = ["ALL_WAYS", "Ways", "does_not_answer"]

ALL_WAYS = ("tunnel", "direct", "stdio")

# A tunnel in which nothing moves must not use up the time of the rungs behind it: so long for
# the proof that a channel opens, and for the handshake through it.  On a slow way, whose proof
# is one round trip, a handshake takes some four.
TUNNEL_SECONDS, ROUND_TRIPS = 2.0, 10
NEIGHBOUR_SECONDS = 2.0  # for a server on another head to answer our greeting
# For a port to take a connection, where stdio is still to come: another head is near, or
# somebody in between drops the packets.
KNOCK_SECONDS = 1.0
LAST_SECONDS = 1.0  # for the host to show that it is there, even if no time is left
# For a server that was started without.
LATER = "`smartsim-bridge start --replace --provision` gives it pyzmq, and its commands go on"


class Ways:
    """From `connection` to servers; `elsewhere`: on another head than the one it ends at.

    `unprovided` is why the head's Python could not be given pyzmq.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        host: str,
        attempts: Attempts,
        *,
        elsewhere: bool = False,
        unprovided: CommandServerError | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._host = host  # as spelled
        self._attempts = attempts
        self._elsewhere = elsewhere
        self._unprovided = unprovided

    async def to(
        self, server: Sighting, names: Sequence[str] = ALL_WAYS
    ) -> tuple[str, Talk] | None:
        """The first of `names` that holds.

        Raises PeerSilent where the server itself, not the way to it, does not answer.
        """
        ways: dict[str, Callable[[Sighting], Awaitable[tuple[str, Talk] | None]]] = {
            "tunnel": self._tunnel,
            "direct": self._direct,
            "stdio": self._stdio,
        }
        before = len(self._attempts.faults)
        for name in names:
            if self._attempts.wants(name):
                talk = await ways[name](server)
                if talk is not None:
                    return talk
        faults = self._attempts.faults[before:]
        # One way that falls silent may be the fault of the way.
        is_whole = tuple(names) == ALL_WAYS and not self._elsewhere
        is_silent = is_whole and faults and isinstance(faults[-1], PeerSilent)
        if is_silent and await self._host_answers():
            raise does_not_answer(server.beacon)
        return None

    async def _host_answers(self) -> bool:
        """Whether the host does: else nobody knows how its server is."""
        limit = max(LAST_SECONDS, self._attempts.deadline.at_most(GREETING_SECONDS))
        deadline = Deadline(limit)
        return await in_thread(lambda: self._connection.answers(deadline), lambda _: None)

    async def _tunnel(self, server: Sighting) -> tuple[str, Talk] | None:
        beacon, attempts = server.beacon, self._attempts
        if not beacon.endpoints:
            fault = self._unprovided or _no_zmq(beacon)
            attempts.faults.append(fault)
            attempts.skip("tunnel", f"no ZMQ on the head: {self._why_no_zmq(beacon)}")
            return None
        address = forwarded(beacon, elsewhere=self._elsewhere)
        if address is None:
            attempts.skip("tunnel", f"the server listens on {beacon.host}'s own loopback only")
            return None

        async def dial() -> Link:
            loop, whole = asyncio.get_running_loop(), attempts.deadline
            is_only = attempts.is_only("tunnel")
            knock = KNOCK_SECONDS if self._elsewhere else TUNNEL_SECONDS
            proof = whole if is_only else whole.within(knock)
            began = loop.time()
            with attempts.journey.stage("tunnel") as note:
                tunnel, endpoint = await rungs.dial_tunnel(
                    self._connection,
                    address,
                    server.credentials,
                    self._settings.runtime_directory,
                    proof,
                )
                attempts.beneath.append(tunnel)
                note.detail = f"{endpoint} to {address[0]}:{address[1]}"
            limit = max(TUNNEL_SECONDS, ROUND_TRIPS * (loop.time() - began))
            if is_only:
                limit = whole.left
            assert server.credentials is not None  # dial_tunnel has looked
            return await rungs.connect_endpoint(endpoint, server.credentials, whole.within(limit))

        return await self._take("tunnel", server, dial)

    def _why_no_zmq(self, beacon: Beacon) -> str:
        if self._unprovided is not None:
            return f"{beacon.why_no_zmq}; {self._unprovided.what}"
        if self._settings.provision:
            return f"{beacon.why_no_zmq}; the server ran already, {LATER}"
        return beacon.why_no_zmq

    async def _direct(self, server: Sighting) -> tuple[str, Talk] | None:
        # An alias may lead anywhere, the server's own name only there.
        host = server.beacon.host if self._elsewhere else self._host
        endpoints = list(reachable(server.beacon, host))
        credentials, deadline = server.credentials, self._attempts.deadline
        is_only = self._attempts.is_only("direct")  # else there is stdio still
        knock = rungs.DIRECT_SECONDS if is_only else KNOCK_SECONDS
        if not server.beacon.endpoints and is_only:
            self._attempts.faults.append(self._unprovided or _no_zmq(server.beacon))
        if not endpoints or credentials is None:
            has_zmq = bool(server.beacon.endpoints)
            why = "the server listens on its own loopback only" if has_zmq else "no ZMQ there"
            self._attempts.skip("direct", why)
            return None
        if (endpoints[0], credentials.server_key) in self._attempts.knocked:
            self._attempts.skip("direct", f"{endpoints[0]} was tried before")
            return None
        return await self._take(
            "direct", server, lambda: rungs.dial_direct(endpoints[0], credentials, deadline, knock)
        )

    async def _stdio(self, server: Sighting) -> tuple[str, Talk] | None:
        attempts, beacon = self._attempts, server.beacon

        async def dial() -> Link:
            with attempts.journey.stage("relay") as note:
                pipe, link = await rungs.dial_stdio(
                    self._connection,
                    beacon,
                    self._settings.prelude or "",
                    attempts.deadline,
                    elsewhere=self._elsewhere,
                )
                attempts.beneath.append(pipe)
                note.detail = f"{beacon.socket} on {beacon.host}"
            return link

        return await self._take("stdio", server, dial)

    async def _take(
        self, name: str, server: Sighting, dial: Callable[[], Awaitable[Link]]
    ) -> tuple[str, Talk] | None:
        aim = f"to {server.beacon.host}" if self._elsewhere else ""
        patience = NEIGHBOUR_SECONDS if self._elsewhere else GREETING_SECONDS
        return await self._attempts.take(name, dial, aim=aim, patience=patience)


def does_not_answer(beacon: Beacon) -> PeerSilent:
    """It was reached for certain: only its user can tell whether it is to be ended."""
    host, pid = beacon.host, beacon.pid
    return PeerSilent(
        f"Your server on {host}, pid {pid}, lives and does not answer",
        host=host,
        step="handshake",
        advice=f"On {host}, `ps -o stat,args -p {pid}` tells how it is: T is stopped, and "
        f"`kill -CONT {pid}` has it go on, with its commands.  `kill -9 {pid}` ends it; then "
        "connect again.  No second one is started beside it.",
    )


def _no_zmq(beacon: Beacon) -> CommandServerError:
    return NoCredentials(
        f"The server on {beacon.host} has no ZMQ: {beacon.why_no_zmq}",
        host=beacon.host,
        step="tunnel",
        advice=f'Use transport="auto" or "stdio", which need none; {LATER}.',
    )
