"""Where shims come in: accepts so many at once as this process has descriptors for.

The process is the user's: a thousand shims must leave it some files to open, and the bridge
some for the way back to the head.  Shims beyond that wait before the door, which asyncio's
own does not know: without descriptors it tries, and complains, a thousand times a second.
Knows connections, not what is said over them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable

__all__ = ["Door"]

BACKLOG = 1024  # shims that wait to be let in; the system may allow fewer
SPARE = 48  # descriptors that are left to the user's program and to the link
AGAIN_SECONDS = 0.5  # until another look, where others may have closed something

log = logging.getLogger("smartsim_bridge.shims")

Receive = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """One listening unix socket; `receive` is run as a task for each connection."""

    def __init__(self, path: str, receive: Receive) -> None:
        self._path = path
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()  # of those who are in
        self._later: asyncio.TimerHandle | None = None
        self._has_complained = False
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        """Listens from now on; raises OSError."""
        try:
            self.listener.setblocking(False)
            self.listener.bind(self._path)
            os.chmod(self._path, 0o600)
            self.listener.listen(BACKLOG)
            self._loop.add_reader(self.listener, self._let_in)
        except BaseException:
            self.listener.close()
            raise

    def close(self) -> None:
        """Lets nobody in any more; who was let in is left alone."""
        if self._later is not None:
            self._later.cancel()
        if self.listener.fileno() >= 0:
            self._loop.remove_reader(self.listener)
            self.listener.close()

    def _let_in(self) -> None:
        if not _has_room():
            self._pause()
            return
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # the whole system has none left
            self._pause()
            return
        task = self._loop.create_task(self._welcome(connection))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader()
        connection.setblocking(False)
        transport, protocol = await self._loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader), connection
        )
        await self._receive(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))

    def _pause(self) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("Too few files may be open here: shims wait for others to end (ulimit -n)")
        self._loop.remove_reader(self.listener)
        self._later = self._loop.call_later(AGAIN_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self.listener, self._let_in)


def _has_room() -> bool:
    """Whether more descriptors are free than are to be spared: the lowest is taken first."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(lowest)
    return soft == resource.RLIM_INFINITY or lowest < max(soft - SPARE, soft // 2)
