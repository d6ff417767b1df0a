"""The agent itself: holds a bridge and serves shims until nobody has come for long enough.

It retires, which means that it takes no more shims and ends after those that it has, when it
was idle, when told to, when its link is lost for good, and when the package that it runs from
has been replaced.  The next shim then starts its successor, beside it if need be.  SIGTERM
ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import smartsim_bridge

from .. import __version__
from ..client.blocking import Bridge
from ..client.bridge import AsyncBridge
from ..errors import AgentFailed, CommandServerError
from ..settings import Settings
from ..shims.opening import ask_head, shim_folders
from ..shims.reception import Reception
from ..shims.survey import Survey
from .channel import AgentSide
from .installation import Installation
from .place import RETIRE, State

__all__ = ["main"]

# Between the moment that a shim has looked for the socket and the one that it is taken in.
ON_THEIR_WAY_SECONDS = 0.2

# From when it is told that shims are served: whoever had it started, a shim most often, is on
# the way, and finds nobody where the idle time is short and the host busy.
FIRST_SHIM_SECONDS = 60.0

LOOK_SECONDS = 60.0  # between two looks whether it can be found

_LOG = logging.getLogger("smartsim_bridge.agent")


def main() -> int:
    """Words: the folder of the shims, and the descriptor that leads to the starter."""
    logging.basicConfig(format="%(asctime)s %(process)d %(message)s", level=logging.INFO)
    signal.signal(RETIRE, signal.SIG_DFL)  # the shim that started it may run under nohup
    channel = AgentSide(socket.socket(fileno=int(sys.argv[2])))
    installation = Installation.read(Path(sys.argv[1]))
    try:
        _serve(installation, channel)
    except CommandServerError as failed:
        _LOG.error("%s", failed)
        channel.failed(failed)
        return 1
    except Exception as broken:
        channel.failed(AgentFailed(f"{broken!r}; its log is {installation.place.log}"))
        raise
    return 0


def _serve(installation: Installation, channel: AgentSide) -> None:
    place = installation.place
    wishes = {**installation.wishes, "autostart": True}
    settings = Settings.gather(**wishes, ask=channel.ask)
    with contextlib.ExitStack() as lock:
        held = lock.enter_context(place.held())
        # So that it can be ended while it logs in: its starter may have gone.
        place.write(held, State(os.getpid(), __version__, installation.target))
        with Bridge.from_settings(settings) as bridge:
            survey = ask_head(bridge, settings)
            agent = _Agent(bridge.core, installation, held, settings)
            call = bridge.portal.call
            call(agent.open(survey))
            for number, meant in ((RETIRE, agent.retire), (signal.SIGTERM, agent.end)):
                signal.signal(number, _in_loop(agent, meant))
            channel.ready()
            with contextlib.suppress(OSError):  # it serves all the same
                place.clear_others()
            _LOG.info("takes no more shims: %s", call(agent.why_unwanted()))
            agent.take_no_more()
            lock.close()  # from now on there may be a successor
            call(agent.close())


def _in_loop(agent: _Agent, meant: Callable[[], None]) -> Callable[[int, object], None]:
    def handle(number: int, frame: object) -> None:
        agent.call_soon(meant)

    return handle


class _Agent:
    """Between a bridge that is linked and the end of the last shim.

    Its coroutines, `retire` and `end` belong into the bridge's loop.
    """

    def __init__(
        self, bridge: AsyncBridge, installation: Installation, held: int, settings: Settings
    ) -> None:
        self._bridge = bridge
        self._settings = settings
        self._installation = installation
        self._place = installation.place
        self._held = held
        self._package = _look_of_package()
        self._shims = 0
        self._has_served = False

    async def open(self, survey: Survey) -> None:
        """Shims are served from now on, and whoever asks may know."""
        loop = asyncio.get_running_loop()
        self.call_soon = loop.call_soon_threadsafe
        self._change = asyncio.Event()  # a shim came or went
        self._told: asyncio.Future[str] = loop.create_future()
        self._ended = asyncio.Event()
        self._reception = Reception(
            self._bridge,
            survey,
            self._place.make_room(os.getpid()),
            keep_env=self._settings.keep_env,
            patience=self._settings.reconnect,
            waits_for_user=False,  # it has nobody by then
            is_ours=shim_folders(),
            on_change=self._count,
        )
        await self._reception.open()
        status = await self._bridge.status()
        self._state = State(
            pid=os.getpid(),
            version=__version__,
            target=self._installation.target,
            head=status.server_host,
            since=time.time(),
        )
        self._tell_linked(True)
        await self._bridge.when_link_changes(self._tell_linked)
        self._place.point_at(self._reception.path)
        _LOG.info("serves shims of %s: %s", self._state.target, status.server_host)

    async def why_unwanted(self) -> str:
        """Returns when no more shims are to be taken."""
        lost = asyncio.ensure_future(self._bridge.given_up())
        idle = asyncio.ensure_future(self._wait_idle())
        hidden = asyncio.ensure_future(self._wait_hidden())
        try:
            every: set[asyncio.Future[Any]] = {lost, idle, hidden, self._told}
            done, _ = await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            return str(done.pop().result())
        finally:
            for waiting in (lost, idle, hidden):
                waiting.cancel()
            await self._bridge.stop_telling(self._tell_linked)

    def take_no_more(self) -> None:
        """Those that are on their way still come in."""
        self._place.point_away(self._reception.path)

    async def close(self) -> None:
        """Waits for the shims that there are; after `end` they are told instead."""
        ended = asyncio.ensure_future(self._ended.wait())
        alone = asyncio.ensure_future(self._wait_alone())
        either: set[asyncio.Future[Any]] = {ended, alone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, alone):
            waiting.cancel()
        await self._reception.close()

    def retire(self, why: str = "it was told to retire") -> None:
        """Serves only those that are there."""
        if not self._told.done():
            self._told.set_result(why)

    def end(self) -> None:
        """Serves nobody."""
        self._ended.set()
        self.retire("it was told to end")

    # --- what happens

    def _count(self, shims: int) -> None:
        self._shims = shims
        self._has_served = True
        self._change.set()
        if _look_of_package() != self._package:
            self.retire("the package was replaced")

    async def _wait_idle(self) -> str:
        while True:
            seconds = self._installation.idle
            if not self._has_served:
                seconds = max(seconds, FIRST_SHIM_SECONDS)
            self._change.clear()
            try:
                await asyncio.wait_for(self._change.wait(), None if self._shims else seconds)
            except asyncio.TimeoutError:
                return f"idle for {seconds:.0f} s"

    async def _wait_hidden(self) -> str:
        """Until nobody can find it, and another one will be started: /tmp was emptied."""
        while self._place.is_held_by(self._held):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(min(LOOK_SECONDS, self._installation.idle))
        return "its place was removed"

    async def _wait_alone(self) -> None:
        await asyncio.sleep(ON_THEIR_WAY_SECONDS)
        while self._shims:
            self._change.clear()
            await self._change.wait()

    def _tell_linked(self, is_linked: bool) -> None:
        self._place.write(self._held, replace(self._state, is_linked=is_linked))


def _look_of_package() -> tuple[int, int] | None:
    """Changes where another version is put in the place of this one."""
    try:
        found = os.stat(smartsim_bridge.__file__)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
