"""Has a running server go on as the version that we are.

Sends the far half to where the server runs, by the SSH connection that there is or over a
new one, asks the server to give way to it, and waits until the session is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .. import __version__
from ..deadline import Deadline
from ..errors import CommandServerError, LinkLost, RequestRefused
from ..settings import Settings
from ..stages import Journey
from .place import Place
from .reach import open_connection, provision, this_host
from .session import Session
from .steps import in_thread
from .talk import Talk

if TYPE_CHECKING:
    from ..bootstrap.host import Host
    from ..bootstrap.replace import Delivered

__all__ = ["give_way", "replace_server"]

CHECK_SECONDS = 30.0  # the server gives the other version half of it to show that it works
RETURN_SECONDS, RETURN_PAUSE = 20.0, 0.1  # for the session to be back, and between two looks


async def replace_server(session: Session, settings: Settings) -> None:
    """Returns when the session is linked to a server of our version.

    Raises RequestRefused where that did not come about and the server goes on as it is.
    """
    talk = await session.linked()
    there = await in_thread(lambda: _deliver(session, settings, talk), lambda _: None)
    talk = await give_way(session, there.path, there.python, there.site)
    version = talk.welcome.version
    if version != __version__:
        raise RequestRefused(
            f"The server tried to give way to version {__version__}, and is {version} still",
            host=talk.welcome.host,
            step="replace",
            advice="Its commands go on.  `smartsim-bridge logs` tells why.",
        )


async def give_way(session: Session, path: str, python: str = "", site: str = "") -> Talk:
    """Has the server become the far half at `path`; the talk with whoever answers then.

    Raises RequestRefused where it does not, LinkLost where nobody comes back.
    """
    talk = await session.linked()
    # Its last word before it gives way may be lost with the link: who comes back will tell.
    with suppress(LinkLost):
        await talk.replace_server(python, path, CHECK_SECONDS, site=site)
    return await _back(session, talk)


def _deliver(session: Session, settings: Settings, talk: Talk) -> Delivered:
    from ..bootstrap.replace import deliver

    deadline = Deadline(settings.timeout)
    journey = Journey(talk.welcome.host, settings.on_stage)
    with _host(session, settings, deadline, journey) as host:
        return deliver(
            host,
            server=(talk.welcome.host, talk.welcome.pid),
            python=settings.python,
            prelude=settings.prelude,
            provision=provision(settings),
            state_dir=settings.state_dir or None,
            deadline=deadline,
            journey=journey,
        )


@contextmanager
def _host(
    session: Session, settings: Settings, deadline: Deadline, journey: Journey
) -> Iterator[Host]:
    connection = session.ascent.connection
    if Place.of(settings).is_here:
        yield this_host(settings)
    elif connection is not None:
        yield connection
    else:
        opened = open_connection(settings, deadline, journey)
        try:
            yield opened
        finally:
            opened.close()


async def _back(session: Session, former: Talk) -> Talk:
    """The talk with the server after that; also where the session itself would not wait."""
    loop = asyncio.get_running_loop()
    end = loop.time() + RETURN_SECONDS
    while True:
        try:
            talk = await asyncio.wait_for(session.linked(), max(0.1, end - loop.time()))
            if talk is not former:
                return talk
        except (CommandServerError, asyncio.TimeoutError):
            if loop.time() > end:
                raise
        if loop.time() > end:
            raise LinkLost("The server neither gives way nor says why not", step="replace")
        await asyncio.sleep(RETURN_PAUSE)
