"""Where a waiting thread does what another thread brings it: above all, asks the user.

A question belongs to the thread of the caller: Ctrl-C reaches the main thread only, and a
notebook takes answers in the thread of its cell.  Knows nothing of what is asked.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
from collections.abc import Callable
from typing import TypeVar

__all__ = ["LOOK_UP_SECONDS", "Desk"]

T = TypeVar("T")

# A signal may be taken by another thread; then nothing wakes the main thread, and Ctrl-C
# would be noticed only when what it waits for has come.
LOOK_UP_SECONDS = 0.5


class Desk:
    """Where another thread has something done by the thread that waits in `Portal.call`."""

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[Callable[[bool], None] | None] = queue.SimpleQueue()
        self._is_closed = False

    def do(self, action: Callable[[], T]) -> T:
        """What `action` gives; raises CancelledError where nobody waits any more.

        Which is no fault of the login: whoever asked must not try another way to log in.
        """
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        def errand(is_wanted: bool) -> None:
            # The asking thread gets no KeyboardInterrupt: that would end its event loop.
            nobody = concurrent.futures.CancelledError("the question was interrupted")
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
