"""The unix socket at which shims are received, in the loop of the process that has the bridge.

One task per shim, so that one that is stuck holds up nobody.  Only this user's processes are
let in: the directory keeps others out, and the peer's uid is looked at as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import weakref
from collections.abc import Callable

from ..client.bridge import AsyncBridge
from ..client.steps import in_thread
from ..links.stream_link import peer_uid
from ..protocol.codec import MAX_PAYLOAD
from ..protocol.submission import submits
from .door import Door
from .errand import Errand, errand
from .guest import Guest
from .job_script import JobScript, brought, find_script
from .survey import Survey
from .wire import Hello

__all__ = ["Reception"]

COMPARE_SECONDS = 60.0  # for the head to read a job script, on a file system that may be slow
FAREWELL_SECONDS = 2.0  # for shims to be told that nobody answers any more
PARTING_SECONDS = 5.0  # for the head to be told which commands go on without their shims
# For a signal that was sent to a shim just before: SIGKILL ends its command, Ctrl-C reaches it.
LAST_SIGNAL_SECONDS = 0.2

_open: weakref.WeakSet[Reception] = weakref.WeakSet()


class Reception:
    """Where shims are served over one bridge; `open` and `close` it in the bridge's loop.

    `on_change` is called there with the number of shims, when one has come or gone;
    `on_failed_poll` with the name of the program, and what it said on stderr.
    """

    def __init__(
        self,
        bridge: AsyncBridge,
        survey: Survey,
        directory: str,
        *,
        keep_env: tuple[str, ...],
        patience: float,
        waits_for_user: bool,
        is_ours: Callable[[str], bool],
        on_change: Callable[[int], object] = lambda number: None,
        on_failed_poll: Callable[[str, bytes], object] = lambda program, said: None,
    ) -> None:
        self.bridge = bridge
        self.patience = patience
        self.waits_for_user = waits_for_user
        self.path = os.path.join(directory, "s")
        self._survey = survey
        self._directory = directory
        self._keep_env = keep_env
        self._is_ours = is_ours
        self._on_change = on_change
        self.on_failed_poll = on_failed_poll
        self._door: Door | None = None
        self._guests: set[Guest] = set()
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()

    async def open(self) -> None:
        """Listens from now on; raises OSError."""
        door = Door(self.path, self._receive)
        try:
            door.open()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self._door = door
        _open.add(self)

    async def part(self) -> None:
        """Lets nobody in any more, and leaves what shims have running to itself.

        As on a head, where a script may end and leave an `srun` behind.  Of a bridge that
        stays open until this returns.
        """
        if self._door is not None:
            self._door.close()
        if not self._guests or not self.bridge.is_linked:
            return
        await asyncio.sleep(LAST_SIGNAL_SECONDS)
        parting = [asyncio.ensure_future(guest.part()) for guest in self._guests]
        with contextlib.suppress(asyncio.TimeoutError):
            everyone = asyncio.gather(*parting, return_exceptions=True)
            await asyncio.wait_for(everyone, PARTING_SECONDS)
        await self.bridge.status()  # an answer: the head has heard what was said before

    async def close(self) -> None:
        """Lets nobody in any more, tells those that wait, and leaves nothing behind."""
        if self._door is not None:
            self._door.close()
            tasks = list(self._door.tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=FAREWELL_SECONDS)
        _open.discard(self)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def errand(self, hello: Hello) -> Errand:
        """What a shim was called for; raises FileNotFoundError, CommandServerError."""
        found = errand(hello, self._survey, keep_env=self._keep_env, is_ours=self._is_ours)
        if not submits(found.argv):
            return found
        script = await in_thread(lambda: find_script(found), lambda _: None)
        if script is None or await self._is_there(script):
            return found
        return brought(found, script, has_grid_engine="qconf" in self._survey.programs)

    async def _is_there(self, script: JobScript) -> bool:
        """Whether the head has the same script in the same place."""
        if not self._survey.files_are_shared:
            return False
        # Compared, and not guessed from where it lies: /tmp may be anybody's, and a bind mount
        # has the device of what is below it.
        path, content = script.path, script.content
        if len(content) <= MAX_PAYLOAD:
            found = await self.bridge.locate(
                (), file=path, content=content, timeout=COMPARE_SECONDS
            )
            if found is not None:
                return found.shared
        words = ["cmp", "-s", "-", path]
        try:
            same = await self.bridge.run(words, input=content, text=False)
        except OSError:
            return True  # no such program there: as if there were no bridge
        return same.returncode == 0

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if peer_uid(writer.get_extra_info("socket")) in (None, os.getuid()):
                await self._serve(Guest(self, reader, writer))
        except asyncio.CancelledError:
            pass  # we are closing
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, guest: Guest) -> None:
        self._guests.add(guest)
        self._on_change(len(self._guests))
        try:
            await guest.serve()
        finally:
            self._guests.discard(guest)
            self._on_change(len(self._guests))

    def abandon(self) -> None:
        """In a forked child: lets go of what would keep shims waiting for the parent's answer."""
        sockets = [writer.get_extra_info("socket") for writer in self._writers]
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        listeners = [] if self._door is None else [self._door.listener]
        for one in (*listeners, *sockets):
            if one.fileno() >= 0:
                # Not closed: the objects here would close the number once more, whosesoever it is.
                os.dup2(nothing, one.fileno(), inheritable=False)
        os.close(nothing)


def _abandon_all() -> None:
    for one in list(_open):
        one.abandon()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
