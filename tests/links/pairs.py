"""Two ends of every kind of link, connected, for tests that all of them must pass."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from smartsim_bridge.errors import LinkLost
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.links.stream_link import StreamListener, connect_unix, link_on_socket
from smartsim_bridge.links.zmq_link import connect_zmq
from smartsim_bridge.links.zmq_listener import ZmqListener, new_credentials
from smartsim_bridge.protocol.beacon import Credentials
from smartsim_bridge.protocol.messages import Hello, Message

__all__ = ["HELLO", "KINDS", "Recording", "all_from", "connected", "zmq_listener"]

KINDS = ("memory", "stream", "unix", "zmq")
HELLO = Hello(2, 2, "0.1", "s1")


class Recording:
    """A receiver that keeps what it is told (links.Receiver)."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.came: list[Message] = []
        self.losses: list[str] = []
        self.over = asyncio.get_running_loop().create_future()
        self._fault = fault

    def arrived(self, message: Message) -> None:
        self.came.append(message)
        if self._fault is not None:
            raise self._fault

    def lost(self, fault: Exception) -> None:
        self.losses.append(str(fault))
        if not self.over.done():
            self.over.set_result(None)


async def all_from(link: Link) -> list[Message]:
    """What comes until the link is lost."""
    came = []
    with suppress(LinkLost):
        while True:
            came.append(await link.receive())
    return came


@asynccontextmanager
async def zmq_listener() -> AsyncIterator[tuple[str, Credentials, asyncio.Queue[Link]]]:
    """A ZMQ server: its endpoint, its user's credentials, and the links that come."""
    links: asyncio.Queue[Link] = asyncio.Queue()
    listener = ZmqListener(links.put_nowait)
    credentials, secret = new_credentials()
    (endpoint,) = listener.listen(["127.0.0.1"], 0, credentials, secret)
    try:
        yield endpoint, credentials, links
    finally:
        listener.close()


@asynccontextmanager
async def connected(kind: str) -> AsyncIterator[tuple[Link, Link]]:
    """(client, server) of one link; the client has said Hello, and the server has heard it."""
    opening = {"memory": _memory, "stream": _stream, "unix": _unix, "zmq": _zmq}[kind]
    async with opening() as (client, server):
        try:
            assert await server.receive() == HELLO
            yield client, server
        finally:
            await client.close()
            await server.close()


@asynccontextmanager
async def _memory() -> AsyncIterator[tuple[Link, Link]]:
    client, server = memory_links()
    client.send(HELLO)
    yield client, server


@asynccontextmanager
async def _stream() -> AsyncIterator[tuple[Link, Link]]:
    left, right = socket.socketpair()
    client, server = await link_on_socket(left, "server"), await link_on_socket(right, "client")
    client.send(HELLO)
    yield client, server


@asynccontextmanager
async def _unix() -> AsyncIterator[tuple[Link, Link]]:
    links: asyncio.Queue[Link] = asyncio.Queue()
    listener = StreamListener(links.put_nowait)
    with tempfile.TemporaryDirectory(prefix="ssb-") as directory:
        path = str(Path(directory) / "s")
        await listener.listen(path)
        client = await connect_unix(path)
        client.send(HELLO)
        yield client, await links.get()
        await listener.close()


@asynccontextmanager
async def _zmq() -> AsyncIterator[tuple[Link, Link]]:
    async with zmq_listener() as (endpoint, credentials, links):
        client = await connect_zmq(endpoint, credentials, timeout=5)
        client.send(HELLO)
        yield client, await links.get()
