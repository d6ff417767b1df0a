"""The one thread with an event loop, through which blocking callers reach async code.

A thread of its own, because the caller may already be inside a running loop, as every
notebook cell is.  One per process, made when first needed, a daemon so that it never
holds up the end of the program.  After a fork the child gets a new one: the thread of
the parent does not exist there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import BridgeClosed
from .desk import LOOK_UP_SECONDS, Desk

__all__ = ["Portal", "leave_portal", "portal"]

T = TypeVar("T")

# After Ctrl-C a cancelled call may still want to say something to the server.
CANCEL_SECONDS = 2.0


class Portal:
    """Runs coroutines in its loop and waits for them; any thread may call."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._left_by: threading.Thread | None = None
        # The proactor loop of Windows cannot watch the descriptors of zmq sockets.
        is_windows = sys.platform == "win32"
        self._loop = asyncio.SelectorEventLoop() if is_windows else asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="smartsim_bridge", daemon=True
        )
        self._thread.start()

    @property
    def is_ours(self) -> bool:
        """Whether its thread exists in this process: it does not in a forked child."""
        return self._pid == os.getpid()

    def leave(self) -> None:
        """The program ends, in this thread: every other one is a daemon with no time left.

        What such a thread is told from now on it would print into an interpreter that is
        being taken down, which aborts it; so it is told nothing, and waits for the end.
        """
        self._left_by = threading.current_thread()

    def _hold_back(self) -> None:
        ours = (self._left_by, self._thread)
        if self._left_by is not None and threading.current_thread() not in ours:
            threading.Event().wait()

    def call(self, work: Coroutine[Any, Any, T], desk: Desk | None = None) -> T:
        """The coroutine's result; Ctrl-C while waiting cancels it.

        Meanwhile this thread does what is brought to `desk`.
        """
        try:
            self._check()
        except (BridgeClosed, RuntimeError):
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            if desk is not None:
                future.add_done_callback(lambda _: desk.close())
                desk.serve()
            return _result(future)
        except BaseException:
            self._hold_back()
            if not future.done():
                self._cancel(future)
            raise

    def wait_for(self, begin: Callable[[Callable[[], None]], T], abandon: Callable[[T], None]) -> T:
        """Has the loop call `begin(done)`, waits for `done` to be called, gives what it made.

        One step there and one back, where `call` takes a task's several turns.  Ctrl-C
        while waiting has the loop call `abandon`.
        """
        self._check()
        made: concurrent.futures.Future[T] = concurrent.futures.Future()
        over = threading.Event()

        def start() -> None:
            try:
                made.set_result(begin(over.set))
            except BaseException as fault:  # noqa: BLE001 - it belongs to the waiting thread
                made.set_exception(fault)
                over.set()

        self._loop.call_soon_threadsafe(start)
        try:
            while not over.wait(LOOK_UP_SECONDS):
                pass
        except BaseException:
            self.post(lambda: abandon(made.result()) if made.exception() is None else None)
            self._settle()
            raise
        if made.exception() is not None:
            self._hold_back()
        return made.result()

    @property
    def can_wait(self) -> bool:
        """Whether this thread may wait: not the loop's own, nor at the end of the program.

        A file that the garbage collector closes gets there.
        """
        return threading.current_thread() is not self._thread and not sys.is_finalizing()

    def _check(self) -> None:
        """Raises where nobody would ever answer."""
        self._hold_back()
        if not self.is_ours:
            raise BridgeClosed("This bridge belongs to the parent process")
        if not self.can_wait:
            raise RuntimeError("a blocking call where the bridge's event loop cannot run")

    def post(self, action: Callable[[], object]) -> None:
        """Has the loop call `action` soon, and does not wait for it."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and all it held with it
            self._loop.call_soon_threadsafe(action)

    def _cancel(self, future: concurrent.futures.Future[T]) -> None:
        future.cancel()
        self._settle()

    def _settle(self) -> None:
        settled = asyncio.run_coroutine_threadsafe(_turn(), self._loop)
        concurrent.futures.wait([settled], timeout=CANCEL_SECONDS)


def _result(future: concurrent.futures.Future[T]) -> T:
    while True:
        try:
            return future.result(LOOK_UP_SECONDS)
        except concurrent.futures.TimeoutError:
            if future.done():  # just now, or it was the coroutine's own
                return future.result()


async def _turn() -> None:
    """Ends after everything that was scheduled before it had its turn."""
    await asyncio.sleep(0)


_portal: Portal | None = None
_making = threading.Lock()


def portal() -> Portal:
    """This process's portal."""
    global _portal
    found = _portal
    if found is None or not found.is_ours:
        with _making:
            if _portal is None or not _portal.is_ours:
                _portal = Portal()
            found = _portal
    return found


def leave_portal() -> None:
    """Tells this process's portal, if there is one, that the program ends."""
    if _portal is not None and _portal.is_ours:
        _portal.leave()
