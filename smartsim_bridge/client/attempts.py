"""What was tried on one climb: each rung and its outcome, and what is open because of it.

A rung is taken when the server has answered our greeting through it, and not before.  Knows
how to judge an attempt, not which come in which order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .. import __version__
from ..deadline import Deadline
from ..errors import BootstrapFailed, CommandServerError, NoRungHeld, VersionMismatch
from ..links.link import Link
from ..settings import Settings
from ..stages import Journey
from . import rungs
from .dismissal import dismiss
from .status import Rung
from .steps import in_thread
from .talk import Talk

__all__ = ["Attempts", "close_all"]

GREETING_SECONDS = 5.0  # a server that runs answers in milliseconds


class Attempts:
    """The rungs of one climb.  With `dismiss` a server of another protocol is ended."""

    def __init__(
        self,
        settings: Settings,
        session: str,
        host: str,
        deadline: Deadline,
        journey: Journey,
        *,
        dismiss: bool = False,
    ) -> None:
        self._transport = settings.transport
        self._session = session
        self._host = host
        self._dismiss = dismiss
        self.deadline = deadline
        self.journey = journey
        self.rungs: list[Rung] = []
        self.faults: list[CommandServerError] = []
        self.beneath: list[Any] = []  # what is open, the latest last
        self.knocked: set[tuple[str, str]] = set()  # endpoints, and keys that were expected there

    def wants(self, rung: str) -> bool:
        """Whether the user lets us take it."""
        return self._transport in ("auto", rung)

    def is_only(self, rung: str) -> bool:
        """Whether there is no other to take."""
        return self._transport == rung

    def skip(self, name: str, reason: str) -> None:
        """It does not apply here."""
        self.rungs.append(Rung(name, held=False, reason=reason, tried=False))

    async def take(
        self,
        name: str,
        dial: Callable[[], Awaitable[Link]],
        *,
        aim: str = "",
        patience: float = GREETING_SECONDS,
    ) -> tuple[str, Talk] | None:
        """The rung and a talk over it; None where it does not hold, and is closed again.

        `aim` says where it leads, where that is not plain.  Raises VersionMismatch.
        """
        loop = asyncio.get_running_loop()
        began, opened = loop.time(), len(self.beneath)
        try:
            link = await dial()
            with self.journey.stage("handshake") as note:
                talk = await Talk.open(
                    link,
                    session=self._session,
                    version=__version__,
                    timeout=self.deadline.at_most(patience),
                )
                note.detail = f"server {talk.welcome.version}, pid {talk.welcome.pid}"
        except VersionMismatch:
            # It is our server, and the same one behind every other rung.
            if self._dismiss:
                await dismiss(dial, self._session)
            raise
        except CommandServerError as fault:
            reason = ": ".join(filter(None, (aim, fault.what, _last_word(fault))))
            self.rungs.append(Rung(name, False, reason, loop.time() - began))
            self.faults.append(fault)
            await close_all(tuple(reversed(self.beneath[opened:])))
            del self.beneath[opened:]
            return None
        self.rungs.append(Rung(name, True, aim, loop.time() - began))
        return name, talk

    def verdict(self) -> CommandServerError:
        """The one fault that there was, else all of them."""
        if len(self.faults) == 1:
            return self.faults[0]
        if not self.faults:
            return rungs.no_server_here(self._host)
        reasons = tuple((rung.name, rung.reason) for rung in self.rungs)
        return NoRungHeld(f"No way to the server on {self._host}", host=self._host, reasons=reasons)


def _last_word(fault: CommandServerError) -> str:
    """Of what the host said, the line that is nearest to the fault."""
    noise = fault.noise if isinstance(fault, BootstrapFailed) else ""
    return noise.strip().splitlines()[-1].strip() if noise.strip() else ""


async def close_all(resources: tuple[Any, ...]) -> None:
    """Closes in the given order, in a thread: SSH may take its time."""

    def close() -> None:
        for one in resources:
            one.close()

    if not resources:
        return
    try:
        await in_thread(close, lambda _: None)
    except RuntimeError:
        close()  # the interpreter ends, and starts no thread any more: nothing else waits
