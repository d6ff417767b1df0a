"""How each rung gets a link, once what it needs is known.

One function per rung; all give a link or raise the CommandServerError that says why not.
Async, with the blocking steps of SSH in threads.  The order is the ladder's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bootstrap import relay
from ..bootstrap.hop import hop
from ..deadline import Deadline
from ..errors import CommandServerError, NoCredentials, NoServer
from ..links.greeting import diagnose
from ..links.link import Link
from ..links.stream_link import connect_unix, link_on_socket
from ..protocol.beacon import Beacon, Credentials
from .beacons import Sighting
from .steps import in_thread

if TYPE_CHECKING:
    from ..ssh.engine import Connection, Forward, Pipe

__all__ = ["dial_direct", "dial_local", "dial_stdio", "dial_tunnel"]

# A port that a firewall drops answers never; the ladder has other rungs to try.
DIRECT_SECONDS = 1.5
# For a step to another head: its login, which may have a slow start-up file, and the relay.
HOP_SECONDS = 8.0


async def dial_local(sighting: Sighting) -> Link:
    """The unix socket of the server on this host."""
    return await connect_unix(sighting.beacon.socket)


async def dial_direct(
    endpoint: str,
    credentials: Credentials | None,
    deadline: Deadline,
    knock: float = DIRECT_SECONDS,
) -> Link:
    """ZMQ over TCP, without SSH; `knock` is for the port to take the connection.

    Without credentials there is nothing to say to a server, but whether one is there can
    be told: NobodyListening, NotCommandServer and the like, else NoCredentials.
    """
    limit = deadline.at_most(knock)
    if credentials is None:
        raise await _without_credentials(endpoint, limit)
    return await _connect_zmq(endpoint, credentials, limit, deadline.left)


async def dial_tunnel(
    connection: Connection,
    address: tuple[str, int],
    credentials: Credentials | None,
    directory: str,
    deadline: Deadline,
) -> tuple[Forward, str]:
    """The tunnel to `address` as the head sees it, and the local endpoint."""
    if credentials is None:
        raise NoCredentials("The server's credentials could not be read on the head")
    tunnel = await in_thread(
        lambda: connection.forward(address[0], address[1], directory=directory, deadline=deadline),
        lambda made: made.close(),
    )
    return tunnel, tunnel.endpoint


async def dial_stdio(
    connection: Connection,
    beacon: Beacon,
    prelude: str,
    deadline: Deadline,
    *,
    elsewhere: bool = False,
) -> tuple[Pipe, Link]:
    """An exec channel, tied to the server's unix socket on the head.

    `elsewhere`: on another head, to which the one where the connection ends must let us in.
    """
    host = connection.target.destination

    def start() -> Pipe:
        pipe = connection.open_stdio(relay.COMMAND, deadline=deadline)
        try:
            limit = deadline
            if elsewhere:
                limit = deadline.within(HOP_SECONDS)
                hop(pipe, beacon.host, deadline=limit)
            relay.start_relay(pipe, beacon, prelude=prelude, host=host, deadline=limit)
        except BaseException:
            pipe.close()
            raise
        return pipe

    pipe = await in_thread(start, lambda made: made.close())
    # A copy of the descriptor: the link closes its own, the pipe its own.
    return pipe, await link_on_socket(pipe.socket.dup(), f"stdio of {host}")


async def connect_endpoint(endpoint: str, credentials: Credentials, deadline: Deadline) -> Link:
    """ZMQ to a local tunnel end."""
    limit = deadline.at_most(60.0)
    return await _connect_zmq(endpoint, credentials, limit, limit)


async def _connect_zmq(endpoint: str, credentials: Credentials, limit: float, most: float) -> Link:
    # Imported here: a local link needs no zmq, and loading it takes a while.
    from ..links.zmq_link import connect_zmq

    return await connect_zmq(endpoint, credentials, timeout=limit, most=most)


async def _without_credentials(endpoint: str, limit: float) -> CommandServerError:
    from ..errors import ServerKeyMismatch

    found = await diagnose(endpoint, timeout=limit)
    if isinstance(found, ServerKeyMismatch):
        return NoCredentials(
            f"A server answers at {endpoint}, but no credentials for it are readable here",
            host=endpoint,
            step="credentials",
        )
    return found


def no_server_here(where: str) -> NoServer:
    """Nothing of ours runs there."""
    return NoServer(f"No server of yours runs on {where}", host=where, step="local")
