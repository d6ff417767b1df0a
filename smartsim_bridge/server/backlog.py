"""How many commands run at once, and who waits for a turn.

Each takes a process and five descriptors of a host that others use too.  Knows that a
command can be started, not what it is or whose.
"""

from __future__ import annotations

import asyncio

from .commands import Command

__all__ = ["MAX_RUNNING", "Backlog"]

MAX_RUNNING = 2048  # in one server, whatever its limit of open files


class Backlog:
    """Lets so many commands run at once, and holds the others in order of arrival."""

    def __init__(self, limit: int = MAX_RUNNING) -> None:
        self._limit = limit
        self.is_closed = False  # the server ends: nothing more is started
        self._running: set[Command] = set()
        self._waiting: dict[Command, None] = {}
        self._is_filling = False
        self._emptied: asyncio.Future[None] | None = None

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def commands(self) -> list[Command]:
        """All that wait or run, of clients that are here and of those that are gone."""
        return [*self._waiting, *self._running]

    async def wait_empty(self, seconds: float) -> None:
        """Returns when nothing runs any more, at the latest after `seconds`."""
        if self._running:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=seconds)

    def admit(self, command: Command) -> None:
        """Starts the command now, or when another one has ended."""
        if len(self._running) >= self._limit:
            self._waiting[command] = None
            return
        self._running.add(command)
        command.start()

    def leave(self, command: Command) -> None:
        """The command is over, or is no longer wanted."""
        self._waiting.pop(command, None)
        self._running.discard(command)
        # One that fails to start leaves from within its start: without the flag, a long row
        # of them would be as deep a recursion.
        if not self._is_filling:
            self._is_filling = True
            try:
                self._fill()
            finally:
                self._is_filling = False
        if not self._running and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._limit and not self.is_closed:
            following = next(iter(self._waiting))
            del self._waiting[following]
            self._running.add(following)
            following.start()
