"""Ending a server that speaks another protocol: all that can be said to it is that it shall end.

Every version understands the wish in Hello, and answers with a Refusal.  Knows how to greet,
not how links are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from .. import __version__
from ..errors import CommandServerError, LinkLost, RequestRefused, VersionMismatch
from ..links.link import Link
from .talk import Talk, WishGranted

__all__ = ["dismiss"]

GREETING_SECONDS = 5.0
END_SECONDS = 20.0  # for it to end, after the grace of its commands
PAUSE_SECONDS = 0.25  # between two looks whether it still answers


async def dismiss(dial: Callable[[], Awaitable[Link]], session: str) -> NoReturn:
    """Has the server end, waits until nobody answers any more, and raises WishGranted.

    Raises VersionMismatch where it does not understand, LinkLost where it does not end.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + END_SECONDS
    granted = await _wish(dial, session)
    while await _still_ends(dial, session):
        if loop.time() > end:
            raise LinkLost(f"The server, version {granted.version}, does not end", step="stop")
        await asyncio.sleep(PAUSE_SECONDS)
    raise granted


async def _wish(dial: Callable[[], Awaitable[Link]], session: str) -> WishGranted:
    try:
        talk = await _greet(dial, session, "stop")
    except WishGranted as granted:
        return granted
    except VersionMismatch as mismatch:
        mismatch.advice = (
            "It is too old to be told from here: end its process on the head; "
            "`smartsim-bridge logs` tells the pid."
        )
        raise
    await talk.close()
    raise LinkLost("Another server is there already", step="stop")


async def _still_ends(dial: Callable[[], Awaitable[Link]], session: str) -> bool:
    # Without the wish: whoever answers by now may be its successor.
    try:
        talk = await _greet(dial, session, "")
    except RequestRefused:
        return True
    except CommandServerError:
        return False
    await talk.close()
    return False


async def _greet(dial: Callable[[], Awaitable[Link]], session: str, wish: str) -> Talk:
    link = await dial()
    return await Talk.open(
        link, session=session, version=__version__, timeout=GREETING_SECONDS, wish=wish
    )
