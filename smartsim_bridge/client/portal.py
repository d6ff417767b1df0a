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
import queue
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from ..errors import AuthenticationRequired, BridgeClosed

__all__ = ["Desk", "Portal", "in_thread", "portal"]

T = TypeVar("T")

# After Ctrl-C a cancelled call may still want to say something to the server.
CANCEL_SECONDS = 2.0

# A signal may be taken by another thread; then nothing wakes the main thread, and Ctrl-C
# would be noticed only when what it waits for has come.
LOOK_UP_SECONDS = 0.5


class Desk:
    """Where another thread has something done by the thread that waits in `Portal.call`.

    A question belongs there: Ctrl-C reaches the main thread only, and a notebook takes
    answers in the thread of its cell.
    """

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[Callable[[bool], None] | None] = queue.SimpleQueue()
        self._is_closed = False

    def do(self, action: Callable[[], T]) -> T:
        """What `action` gives; raises AuthenticationRequired where nobody waits any more."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        def errand(is_wanted: bool) -> None:
            # The asking thread gets no KeyboardInterrupt: that would end its event loop.
            nobody = AuthenticationRequired("The question was interrupted", step="login")
            if not is_wanted:
                outcome.set_exception(nobody)
                return
            try:
                outcome.set_result(action())
            except Exception as fault:  # noqa: BLE001 - it belongs to the asking thread
                outcome.set_exception(fault)
            except BaseException:
                outcome.set_exception(nobody)
                raise

        self._errands.put(errand)
        if self._is_closed:
            self._turn_away()
        return outcome.result()

    def serve(self) -> None:
        """Does what is brought here until `close`; Ctrl-C ends it too."""
        try:
            while (errand := self._next()) is not None:
                errand(True)
        finally:
            self._is_closed = True
            self._turn_away()

    def _next(self) -> Callable[[bool], None] | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._errands.get(timeout=LOOK_UP_SECONDS)

    def close(self) -> None:
        """Nobody needs to wait here any longer."""
        self._errands.put(None)

    def _turn_away(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                errand = self._errands.get_nowait()
                if errand is not None:
                    errand(False)


class Portal:
    """Runs coroutines in its loop and waits for them; any thread may call."""

    def __init__(self) -> None:
        self._pid = os.getpid()
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
        return made.result()

    @property
    def can_wait(self) -> bool:
        """Whether this thread may wait: not the loop's own, nor at the end of the program.

        A file that the garbage collector closes gets there.
        """
        return threading.current_thread() is not self._thread and not sys.is_finalizing()

    def _check(self) -> None:
        """Raises where nobody would ever answer."""
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


async def in_thread(work: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Runs a blocking step; if its caller is cancelled meanwhile, its result is undone.

    In a daemon thread: a program that is interrupted must not wait at its end for a host
    that says nothing, as it would for the threads of an executor.
    """
    return await _Step(work, undo).outcome


class _Step(Generic[T]):
    def __init__(self, work: Callable[[], T], undo: Callable[[T], None]) -> None:
        self._work = work
        self._undo = undo
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        threading.Thread(target=self._run, name="smartsim_bridge step", daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as fault:  # noqa: BLE001 - it belongs to who awaits it
            failed = fault  # the name of an except clause ends with it
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(lambda: self._fail(failed))
            return
        try:
            self._loop.call_soon_threadsafe(self._succeed, result)
        except RuntimeError:
            self._undo(result)

    def _fail(self, fault: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(fault)

    def _succeed(self, result: T) -> None:
        if self.outcome.done():
            # Cancelled; closing may take its time, and the loop has other things to do.
            threading.Thread(target=self._undo, args=(result,), daemon=True).start()
        else:
            self.outcome.set_result(result)


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
