"""What outlives a link: the commands that this client follows, and the way back to them.

Holds the talk of the moment.  When that one is lost it climbs the ladder again, with
growing pauses, greets with the same name, and lets every command say again what may not
have arrived.  Whoever waits for a command just waits longer.  It never asks the user
anything: where a login needs him, that is the fault that everybody is told.  Knows not what
commands are, only that they listen.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from ..errors import (
    AuthenticationRequired,
    BootstrapFailed,
    BridgeClosed,
    CommandServerError,
    CommandTaken,
    HostKeyRefused,
    InvalidSettings,
    LinkLost,
    LoginFailed,
    MasterRequired,
    NobodyListening,
    NoServer,
    NoUsablePython,
    PeerMisbehaved,
    UnsupportedSshConfig,
    VersionMismatch,
)
from ..protocol.messages import Entry, Forget, Located, Message, Report
from .ladder import Ascent
from .talk import AboutCommand, Talk

__all__ = ["Listener", "Session", "pauses"]

FORGET_AT = 64  # commands that are over, before the server is told at once
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds between two climbs
SHORTEST_LIFE = 0.1  # seconds from one link to the climb after it, whatever that link has brought
SETTLED_SECONDS = 10.0  # a link that lived so long, or brought anything, was a good one
REFUSED_SECONDS = 60.0  # for a server that is gone from its port: one that restarts is back by then

# What another climb would not mend; a host that refuses us must not be asked again and again.
_FINAL = (
    HostKeyRefused,
    InvalidSettings,
    LoginFailed,
    NoServer,
    NoUsablePython,
    UnsupportedSshConfig,
    VersionMismatch,
)

# Of these, what somebody else may have mended by the next call, and what looking again does not
# cost a failed login: a server that was started, a ControlMaster that was opened.
_MENDED_ELSEWHERE = (MasterRequired, NoServer)


log = logging.getLogger("smartsim_bridge")


class Listener(Protocol):
    """A command, as the session sees it."""

    waits_for_user: bool  # also for a login that needs him

    def handle(self, message: AboutCommand) -> None:
        """Something arrived that is about it; raises PeerMisbehaved."""

    def resume(self, resumed: bool) -> None:
        """There is another link; `resumed`: to a server that knows all we ever asked."""

    def lost(self, fault: CommandServerError) -> None:
        """Nothing more will arrive."""


class Session:
    """One client's side of a session."""

    def __init__(
        self,
        name: str,
        ascent: Ascent,
        climb: Callable[[Ascent], Awaitable[Ascent]],
        patience: float,
    ) -> None:
        self.id = name
        self.ascent = ascent
        self.reconnects = 0
        self.fault: CommandServerError | None = None  # why there is no link, and none is sought
        self.on_change: list[Callable[[bool], object]] = []  # told when a link came or went
        self._climb = climb
        self._patience = patience
        self._commands: dict[str, Listener] = {}
        self._over: list[str] = []  # commands of which we have everything
        self._spared: set[str] = set()
        # The last ones that the server was told of: it has not heard what a broken link took.
        self._said: deque[str] = deque(maxlen=4 * FORGET_AT)
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._pauses = pauses()
        self._since = self._lost_at = self._loop.time()
        self.is_closed = False
        self._climbing: asyncio.Task[Any] | None = None
        self._linked: asyncio.Future[None] = self._loop.create_future()
        self._linked.set_result(None)
        self._given_up = asyncio.Event()  # set as long as there is a fault
        # While only the user can bring a link, and some wait for him.
        self._waiting_for_user: asyncio.TimerHandle | None = None
        self._user_news = asyncio.Event()
        ascent.talk.attend(self)

    @property
    def talk(self) -> Talk:
        """The talk of the moment, or the last one."""
        return self.ascent.talk

    @property
    def is_linked(self) -> bool:
        """Whether there is a link now, as far as we know."""
        return self.fault is None and self.talk.fault is None

    def next_number(self) -> int:
        """The number of the next Start."""
        return next(self._numbers)

    # --- for commands

    def register(self, command: str, listener: Listener) -> None:
        """Messages about `command` go to `listener`; raises what `revive` raises."""
        self.revive()
        before = self._commands.pop(command, None)
        if before is not None:
            before.lost(CommandTaken(f"Attached to {command} once more, here", step="attach"))
        if command in self._over:
            self._over.remove(command)  # somebody wants it after all
        self._commands[command] = listener

    def forget(self, command: str, *, is_over: bool = False) -> None:
        """Nothing more is expected about `command`; `is_over`: it has no more to say at all."""
        self._commands.pop(command, None)
        if not is_over or self.is_closed:
            return
        if command in self._spared:
            self._spared.discard(command)  # who attaches again spares it again
        else:
            self._over.append(command)
            if len(self._over) >= FORGET_AT:
                self.beat()

    def spare(self, command: str) -> None:
        """What it says may be for somebody else, too: the server is not told that we have it."""
        self._spared.add(command)

    def send(self, message: Message) -> bool:
        """Whether it went out; what did not is said again by `Listener.resume`.

        Raises ValueError for a message that is too large.
        """
        if not self.is_linked:
            return False
        try:
            self.talk.send(message)
        except LinkLost:
            return False
        return True

    # --- for the bridge

    async def linked(self) -> Talk:
        """The talk, once there is a link.  Raises the fault where none comes."""
        self.revive()
        await asyncio.shield(self._linked)
        if self.fault is not None:
            raise copy.copy(self.fault)
        return self.talk

    async def given_up(self) -> CommandServerError:
        """Why no link is sought any more, once that is so; the next call may seek one."""
        while self.fault is None:
            await self._given_up.wait()
        return self.fault

    async def when_sought(self) -> None:
        """Returns at once, or where only the user can bring a link, when he or nobody will."""
        while self._waiting_for_user is not None and self.fault is not None:
            await self._user_news.wait()

    async def inquire(self, timeout: float) -> Report:
        """The server about itself; raises LinkLost."""
        return await (await self.linked()).inquire(timeout)

    async def list_commands(self, timeout: float) -> list[Entry]:
        """All commands that the server knows; raises LinkLost."""
        return await (await self.linked()).list_commands(timeout)

    async def locate(
        self, programs: tuple[str, ...], file: str, content: bytes, timeout: float
    ) -> Located | None:
        """What the head has of it, or None from an older server; raises LinkLost.

        As a command does, it outlives a link that breaks: it is asked again over the next.
        """
        while True:
            talk = await self.linked()
            try:
                return await talk.locate(programs, file, content, timeout)
            except LinkLost:
                if talk.fault is None:  # no answer in time
                    raise

    def revive(self) -> None:
        """After we gave up: one more climb, for whoever calls now.

        Raises the fault where that is of no use without the user.
        """
        if self.is_closed:
            raise BridgeClosed("This bridge was closed")
        if self.fault is None:
            return
        if isinstance(self.fault, _FINAL) and not isinstance(self.fault, _MENDED_ELSEWHERE):
            raise copy.copy(self.fault)
        self._seek(patience=0.0)

    async def reconnect(self, climb: Callable[[Ascent], Awaitable[Ascent]]) -> None:
        """Climbs now, in the user's presence; raises what stands in the way."""
        if self.is_closed:
            raise BridgeClosed("This bridge was closed")
        if self.is_linked:
            return
        self._stop_seeking()
        before = self.fault
        self._expect()
        climbing = self._climbing = self._loop.create_task(_started(climb, self.ascent))
        try:
            ascent = await climbing
        except BaseException as fault:
            if self._climbing is not climbing:
                raise BridgeClosed("This bridge was closed") from None
            self._climbing = None
            self._go_on_without(fault, before)
            raise
        self._climbing = None
        self._arrive(ascent)

    async def close(self) -> None:
        """Says goodbye; whatever still waits is told that the bridge was closed."""
        if self.is_closed:
            return
        self.beat()
        self.is_closed = True
        self._stop_seeking()
        self._stop_waiting_for_user()
        if self.fault is None or self._commands:
            self._give_up(LinkLost("The bridge was closed", host=self.talk.welcome.host))
        await self.ascent.close()

    def disown(self) -> None:
        """Tells nobody anything any more: the threads that wait have no time left for it."""
        self._commands.clear()
        self.talk.disown()

    # --- for the talk (talk.Attendant)

    def told(self, message: AboutCommand) -> None:
        """Hands it to whom it is about; raises PeerMisbehaved."""
        listener = self._commands.get(message.command)
        if listener is not None:
            listener.handle(message)

    def beat(self) -> None:
        """Tells the server what it need not keep for us."""
        if self._over and self.send(Forget(tuple(self._over))):
            self._said.extend(self._over)
            self._over.clear()

    def talk_over(self, fault: LinkLost) -> None:
        """The link is lost: seeks another, unless the end was meant."""
        if self.is_closed or self.fault is not None or self.is_linked:
            return  # also where a former talk ends late
        is_meant = bool(self.talk.stopping) and not self.talk.has_successor
        if is_meant or self._patience <= 0 or isinstance(fault, PeerMisbehaved):
            self._give_up(fault)
        else:
            self._seek(self._patience)

    # --- inside

    def _seek(self, patience: float) -> None:
        if self._climbing is not None:
            return
        self._expect()
        if self.talk.was_useful or self._loop.time() - self._since > SETTLED_SECONDS:
            self._pauses, self._lost_at = pauses(), self._loop.time()
        elif 0 < patience < self._loop.time() - self._lost_at:
            what = f"No link has lasted for {self._loop.time() - self._lost_at:.0f} s"
            self._give_up(LinkLost(what, host=self.talk.welcome.host, step="reconnect"))
            return
        self._climbing = self._loop.create_task(self._climb_until(self._lost_at, patience))
        self._tell(False)

    def _expect(self) -> None:
        """From now on who waits has something to wait for."""
        self.fault = None
        self._given_up.clear()
        self._user_news.set()
        if self._linked.done():
            self._linked = self._loop.create_future()

    def _go_on_without(self, fault: BaseException, before: CommandServerError | None) -> None:
        """The user's climb failed, or he has broken it off: then things are as they were."""
        if isinstance(fault, CommandServerError):
            self._give_up(fault)
        elif before is not None:
            self._give_up(before)
        else:
            self._seek(self._patience)

    async def _climb_until(self, began: float, patience: float) -> None:
        for pause in self._pauses:
            rest = self._since + SHORTEST_LIFE - self._loop.time()
            await asyncio.sleep(max(pause, rest))
            try:
                ascent = await self._climb(self.ascent)
            except CommandServerError as known:
                fault = known
            except Exception as broken:  # noqa: BLE001 - a link that breaks at a bad moment
                # shows what a library overlooks: the next climb may find another moment.
                fault = CommandServerError(f"The way back failed: {broken!r}", step="reconnect")
            else:
                # wait_for loses a cancellation that comes in the same turn as its result.
                if self._climbing is not asyncio.current_task():
                    await ascent.close()
                    return
                self._climbing = None
                self._arrive(ascent)
                return
            end = self._end(fault, self._loop.time() - began, patience)
            if end is not None:
                self._climbing = None
                self._give_up(end)
                return

    @staticmethod
    def _end(
        fault: CommandServerError, waited: float, patience: float
    ) -> CommandServerError | None:
        """What to tell those who wait, or None where another climb may help."""
        if isinstance(fault, _FINAL) or not patience:
            return fault
        if isinstance(fault, (BootstrapFailed, NobodyListening)):
            patience = min(patience, REFUSED_SECONDS)
        if waited < patience:
            return None
        lost = LinkLost(
            f"The link was lost {waited:.0f} s ago and none came back: {fault.what}",
            host=fault.host,
            step="reconnect",
        )
        lost.__cause__ = fault
        return lost

    def _arrive(self, ascent: Ascent) -> None:
        self.ascent, self.fault = ascent, None
        self._given_up.clear()
        self._stop_waiting_for_user()
        self.reconnects += 1
        self._since = self._loop.time()
        if not self._linked.done():
            self._linked.set_result(None)
        ascent.talk.attend(self)  # before anything is asked: the answer may come at once
        for listener in list(self._commands.values()):
            listener.resume(ascent.talk.welcome.resumed)
        if self._said:
            self.send(Forget(tuple(self._said)))
        if self.is_linked:
            self._tell(True)

    def _give_up(self, fault: CommandServerError) -> None:
        self.fault = fault
        self._given_up.set()
        if not self._linked.done():
            self._linked.set_result(None)
        if isinstance(fault, AuthenticationRequired):
            self._wait_for_user(fault)
        self._user_news.clear()
        staying = {}
        if self._waiting_for_user is not None:
            staying = {name: one for name, one in self._commands.items() if one.waits_for_user}
        listeners = [one for name, one in self._commands.items() if name not in staying]
        self._commands = staying
        for listener in listeners:
            listener.lost(copy.copy(fault))  # each raises its own, with a traceback of its own

    def _wait_for_user(self, fault: AuthenticationRequired) -> None:
        """For as long as a link would be sought; an attempt of his that fails changes nothing."""
        rest = self._lost_at + self._patience - self._loop.time()
        if self._waiting_for_user is None and rest > 0 and not self.is_closed:
            self._waiting_for_user = self._loop.call_later(rest, self._wait_no_more)
            log.warning("%s", fault)

    def _wait_no_more(self) -> None:
        self._stop_waiting_for_user()
        if self.fault is not None:
            self._give_up(self.fault)

    def _stop_waiting_for_user(self) -> None:
        waiting, self._waiting_for_user = self._waiting_for_user, None
        if waiting is not None:
            waiting.cancel()
        self._user_news.set()

    def _tell(self, is_linked: bool) -> None:
        for tell in list(self.on_change):  # one that is told may want no more
            try:
                tell(is_linked)
            except Exception as fault:  # noqa: BLE001 - the link must not depend on it
                context = {"message": f"{tell!r} was told of the link", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(context)

    def _stop_seeking(self) -> None:
        climbing, self._climbing = self._climbing, None
        if climbing is not None:
            climbing.cancel()


async def _started(climb: Callable[[Ascent], Awaitable[Ascent]], former: Ascent) -> Ascent:
    return await climb(former)


def pauses() -> Iterator[float]:
    """Seconds to wait before each climb: at once, then longer and longer, never in step.

    Many clients may have lost the same head at the same moment.
    """
    yield 0.0
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE)
