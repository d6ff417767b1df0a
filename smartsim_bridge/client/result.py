"""One command from its request to its result: what `run` is made of.

Tells its end by a callback and needs no task: for the blocking face the result passes
from the loop to the waiting thread in one step, and a command that takes a millisecond
must not wait longer for its turns than for its answer.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..errors import CommandServerError, LinkLost
from ..protocol.messages import Start
from .command import AsyncCommand
from .session import Session
from .text import decode

__all__ = ["Result", "Wish"]

# The head ends a command whose time is up; where no link tells us so, we say it ourselves.
OVERDUE_SECONDS = 2.0


@dataclass(frozen=True)
class Wish:
    """What the caller of `run` wants of the result."""

    args: object
    timeout: float | None = None
    check: bool = False
    text: bool = True
    encoding: str | None = None
    errors: str | None = None


class Result:
    """A command that was asked for; `when_over` is called once, in the loop, at its end."""

    def __init__(
        self,
        session: Session,
        request: Start,
        data: bytes | None,
        wish: Wish,
        when_over: Callable[[], object],
    ) -> None:
        self._wish = wish
        self._when_over = when_over
        self._session = session
        self._feeding: asyncio.Task[None] | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._is_over = False
        self.command = AsyncCommand(session, request, wish.args)
        self.command.collect(self._over)
        self.command.request_start()
        if wish.timeout is not None:
            self._look_later(max(0.0, wish.timeout) + OVERDUE_SECONDS)
        if data is not None:
            self._feed(data)

    def completed(self) -> subprocess.CompletedProcess[Any]:
        """The result, once it is over.

        Raises OSError where it did not start, TimeoutExpired, CalledProcessError, LinkLost.
        """
        command, wish = self.command, self._wish
        if command.fault is not None and not command.timed_out:
            raise command.fault
        out, err = command.collected()
        if command.timed_out:
            raise subprocess.TimeoutExpired(
                cast(Any, wish.args), wish.timeout or 0.0, out or None, err or None
            )
        done: subprocess.CompletedProcess[Any] = subprocess.CompletedProcess(
            cast(Any, wish.args), command.returncode or 0, out, err
        )
        if wish.text or wish.encoding or wish.errors:
            done.stdout = decode(out, wish.encoding, wish.errors)
            done.stderr = decode(err, wish.encoding, wish.errors)
        if wish.check:
            done.check_returncode()
        return done

    def abandon(self, number: int = signal.SIGTERM) -> None:
        """The caller will not come back for it."""
        self.command.abandon(number)

    def interrupt(self) -> None:
        """The caller was interrupted, and the command is, as if it ran in the same terminal."""
        self.abandon(signal.SIGINT)

    def _over(self) -> None:
        self._is_over = True
        if self._overdue is not None:
            self._overdue.cancel()
        self._when_over()

    def _look_later(self, seconds: float) -> None:
        if self._is_over:
            return
        self._overdue = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Its time is up: a server that answers will say so; else nobody would."""
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        if self._session.is_linked:
            try:
                await self._session.talk.inquire(OVERDUE_SECONDS)
            except LinkLost:
                pass
            else:
                self._look_later(OVERDUE_SECONDS)
                return
        if not self._is_over:
            self.command.timed_out = True
            self.command.collect()  # what becomes of it now, nobody is told
            self.command.abandon()
            self._when_over()

    def _feed(self, data: bytes) -> None:
        stdin = self.command.stdin
        if stdin is None:
            return
        if stdin.fits(data):
            stdin.write_now(data)
            stdin.close()
        else:
            self._feeding = asyncio.get_running_loop().create_task(self._feed_slowly(data))

    async def _feed_slowly(self, data: bytes) -> None:
        stdin = self.command.stdin
        if stdin is None:
            return
        try:
            await stdin.write(data)
        except (BrokenPipeError, CommandServerError):
            pass  # its exit status, or the lost link, says what became of it
        stdin.close()
