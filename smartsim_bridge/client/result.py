"""One command from its request to its result: what `run` is made of.

Tells its end by a callback and needs no task: for the blocking face the result passes
from the loop to the waiting thread in one step, and a command that takes a millisecond
must not wait longer for its turns than for its answer.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..errors import LinkLost
from ..protocol.messages import Start
from .command import AsyncCommand
from .talk import Talk
from .text import decode

__all__ = ["Result", "Wish"]


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
        talk: Talk,
        request: Start,
        data: bytes | None,
        wish: Wish,
        when_over: Callable[[], object],
    ) -> None:
        self._wish = wish
        self._feeding: asyncio.Task[None] | None = None
        self.command = AsyncCommand(talk, request, wish.args)
        self.command.collect(when_over)
        self.command.request_start()
        if data is not None:
            self._feed(data)

    def completed(self) -> subprocess.CompletedProcess[Any]:
        """The result, once it is over.

        Raises OSError where it did not start, TimeoutExpired, CalledProcessError, LinkLost.
        """
        command, wish = self.command, self._wish
        if command.fault is not None:
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

    def abandon(self) -> None:
        """The caller will not come back for it."""
        self.command.abandon()

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
        except (BrokenPipeError, LinkLost):
            pass  # its exit status, or the lost link, says what became of it
        stdin.close()
