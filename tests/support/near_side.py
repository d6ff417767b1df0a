"""The client's half against a real server, in one event loop or beside it.

async with bridge_in(tmp_path) as bridge:    both halves in this loop, a unix socket between
server = local_server                        a process of its own, see local_server.py
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from smartsim_bridge.client.bridge import AsyncBridge
from smartsim_bridge.client.ladder import Ascent
from smartsim_bridge.client.session import Session
from smartsim_bridge.client.talk import Talk
from smartsim_bridge.links.link import Link
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.links.stream_link import connect_unix
from smartsim_bridge.protocol.messages import Hello, Ping, Welcome
from smartsim_bridge.server.options import ServerOptions
from smartsim_bridge.server.places import choose_places
from smartsim_bridge.server.serve import Server
from smartsim_bridge.settings import Settings

__all__ = ["bridge_in", "bridge_on", "server_in", "session_on", "talk_by_hand"]

VERSION = "0.0.test"
SESSION = "f" * 32


@asynccontextmanager
async def server_in(directory: Path) -> AsyncIterator[Server]:
    """A server in this loop, with its state in `directory`."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    places = choose_places(environment, str(directory / "state"))
    server = Server(ServerOptions(VERSION), places, environment)
    await server.start()
    try:
        yield server
    finally:
        server.stop(0.0)
        await server.wait()


@asynccontextmanager
async def bridge_on(link: Link, transport: str = "local") -> AsyncIterator[AsyncBridge]:
    """A bridge over any link."""
    talk = await Talk.open(link, session=SESSION, version=VERSION, timeout=60.0)
    bridge = AsyncBridge(session_on(talk, transport), Settings())
    try:
        yield bridge
    finally:
        await bridge.close()


@asynccontextmanager
async def bridge_in(directory: Path) -> AsyncIterator[AsyncBridge]:
    """A server and a bridge to it."""
    async with server_in(directory) as server:
        assert server.beacon is not None
        async with bridge_on(await connect_unix(server.beacon.socket)) as bridge:
            yield bridge


def session_on(talk: Talk, transport: str = "local") -> Session:
    """A session that takes a lost link for the end."""

    async def no_way_back(former: Ascent) -> Ascent:
        raise AssertionError(f"{former} was to be climbed again")

    ascent = Ascent(talk, transport, (), (), started=False)
    return Session(SESSION, ascent, no_way_back, patience=0.0)


async def talk_by_hand() -> tuple[Talk, Link]:
    """A talk whose server is the test: it holds the other end of the link."""
    near, far = memory_links()
    opening = Talk.open(near, session=SESSION, version=VERSION, timeout=60.0)
    far.send(Welcome(2, VERSION, "head", 17))
    talk = await opening
    assert isinstance(await far.receive(), Hello)
    assert isinstance(await far.receive(), Ping)
    return talk, far
