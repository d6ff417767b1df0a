"""Blocking steps for async code: what takes its time, and cannot be awaited.

In daemon threads: a program that is interrupted must not wait at its end for a host that
says nothing, as it would for the threads of an executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(work: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Runs a blocking step; if its caller is cancelled meanwhile, its result is undone."""
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
