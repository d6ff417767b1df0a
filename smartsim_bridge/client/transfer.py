"""put, get and sync: the near end of a transfer, and the far one, a command of the head.

What an end does with the disk it does in a thread of the loop's own, one step at a time,
so that neither the loop nor other calls wait for a disk.  A lost link is the session's
business; what the far end says when it gives up becomes an error here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Optional, Protocol, TypeVar, Union

from ..errors import CommandServerError, DiskFull, TransferFailed, TransferIncomplete
from ..files.end import ALWAYS, CHANGED, FULL, Fault, Wish
from ..files.entries import Malformed, on_wire
from ..files.listing import Listing
from ..files.report import FilesReport, Left, Listener, Progress, SyncReport
from ..files.scan import KEEP, SYMLINKS
from ..files.sink import Sink, names_a_folder
from ..files.source import Source
from .command import AsyncCommand
from .desk import Desk

__all__ = ["Files", "Opener", "Patterns", "Tell", "absolute", "at_the_desk", "in_the_loop"]

Patterns = Iterable[str]
Tell = Optional[Callable[[Progress], Awaitable[object]]]
NearEnd = Union[Source, Sink, Listing]
T = TypeVar("T")

READ_SIZE = 1024 * 1024
# In the middle of a large file it is gathered for so long what comes: a step for every few
# KiB would cost more than the writing.  A window of 1 MiB is not filled in it.
GATHER_SECONDS = 0.0005
LAST_WORDS_SECONDS = 5.0  # for a far end that broke off to be over, and to have said why
TELLS_PER_SECOND = 10.0  # a bar needs no more, and a program that counts does not either
PROGRAM = "files"


class Opener(Protocol):
    """What this needs of a bridge."""

    @property
    def host(self) -> str:
        """The head's name for itself."""

    @property
    def spelled(self) -> tuple[str, str]:
        """The head and the user there, as they were asked for."""

    @property
    def sync_directory(self) -> str:
        """Where it is kept what two folders had in common."""

    async def own_program(self, name: str, *words: str) -> AsyncCommand:
        """Starts a program of the far half."""


class Files:
    """The transfers of one bridge; `tell` hears how far each is."""

    def __init__(self, bridge: Opener, tell: Tell = None) -> None:
        self.bridge = bridge
        self._tell = tell

    async def put(self, local: str, remote: str, **wishes: Any) -> FilesReport:
        """As `AsyncBridge.put`."""
        report = await self._put(local, remote, **wishes)
        self.check(report, report.failed)
        return report

    async def get(self, remote: str, local: str, **wishes: Any) -> FilesReport:
        """As `AsyncBridge.get`."""
        report = await self._get(remote, local, **wishes)
        self.check(report, report.failed)
        return report

    async def sync(self, folder: str, remote: str, *, direction: str, **wishes: Any) -> SyncReport:
        """As `AsyncBridge.sync`."""
        if direction == "both":
            from .both_ways import sync_both_ways

            return await sync_both_ways(self, folder, remote, **wishes)
        wishes = {"which": CHANGED, "is_folder": True, **wishes}
        if direction == "up":
            report = SyncReport(up=await self._put(folder, remote, **wishes))
        elif direction == "down":
            report = SyncReport(down=await self._get(remote, folder, **wishes))
        else:
            raise ValueError(f"direction={direction!r}: one of up, down, both")
        self.check(report, (*report.up.failed, *report.down.failed))
        return report

    async def _put(self, local: str, remote: str, **wishes: Any) -> FilesReport:
        wish = self.wish(remote, sends=False, **wishes)
        return await self.move(lambda: Source(absolute(local), wish), wish)

    async def _get(self, remote: str, local: str, **wishes: Any) -> FilesReport:
        wish = self.wish(remote, sends=True, **wishes)
        return await self.move(lambda: Sink(absolute(local), wish), wish)

    async def move(self, make: Callable[[], Source | Sink], wish: Wish) -> FilesReport:
        """A transfer whose near end is what `make` makes, in a thread."""
        near = await self.made(make)
        await self.transfer(near, wish)
        source = near.source if isinstance(near, Sink) else near.root
        return FilesReport(source=source, target=near.target, **near.tally.fields())

    def wish(self, remote: str, *, sends: bool, which: str = ALWAYS, symlinks: str = KEEP,
              include: Patterns = (), exclude: Patterns = (), **others: Any) -> Wish:  # fmt: skip
        """What the far end is asked; raises TypeError and ValueError."""
        if symlinks not in SYMLINKS:
            raise ValueError(f"symlinks={symlinks!r}: one of {', '.join(SYMLINKS)}")
        return Wish(
            on_wire(remote),
            sends,
            which=which,
            symlinks=symlinks,
            include=_texts(include, "include"),
            exclude=_texts(exclude, "exclude"),
            totals=self._tell is not None,
            **others,
        )

    async def made(self, make: Callable[[], T]) -> T:
        """What `make` makes; the fault that it finds becomes an error."""
        try:
            return await asyncio.to_thread(make)
        except Fault as fault:
            raise self._error(fault) from None

    async def transfer(self, near: NearEnd, wish: Wish) -> None:
        """The whole conversation with a far end."""
        verb = "send" if wish.sends else "receive"
        talk = _Talk(near, self._tell)
        try:
            command = await self.bridge.own_program(PROGRAM, verb, wish.place)
            try:
                await talk.run(command, wish.line())
            except BaseException:
                command.abandon()
                raise
        except Fault as fault:
            raise self._error(fault) from None
        except Malformed as wrong:
            what = f"What the far end of the transfer said makes no sense: {wrong}"
            raise TransferFailed(what, host=self.bridge.host, step="files") from None
        finally:
            await talk.close()

    def check(self, report: FilesReport | SyncReport, failed: Sequence[Left]) -> None:
        """Raises TransferIncomplete where anything failed."""
        if failed:
            count = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            what = f"Not moved: {failed[0].path or 'the file'} ({failed[0].reason}){count}"
            raise TransferIncomplete(what, report=report, host=self.bridge.host, step="files")

    def _error(self, fault: Fault) -> Exception:
        """Full disks and what else the system said, of here or there."""
        place = f"{self.bridge.host}:{fault.path}" if fault.is_far else fault.path
        if fault.number in FULL:
            host = self.bridge.host if fault.is_far else None
            return DiskFull(f"No room for {place}: {fault.text}", host=host, step="files")
        if fault.number:
            return OSError(fault.number, fault.text, place)
        return TransferFailed(f"{place}: {fault.text}", host=self.bridge.host, step="files")


class _Talk:
    """One conversation of a near end with a far one."""

    def __init__(self, end: NearEnd, tell: Tell) -> None:
        self._end = end
        self._tell = tell
        self._told = 0.0
        self._turn = asyncio.Lock()
        self._step: asyncio.Future[Any] | None = None
        self._news = asyncio.Event()
        self._has_heard_all = False

    async def run(self, command: AsyncCommand, first: bytes) -> None:
        """Until both are through.  Raises Fault, Malformed, and what the streams raise."""
        assert command.stdin is not None
        assert command.stderr is not None
        command.stderr.collect()
        await command.stdin.write(first)
        hearing = asyncio.ensure_future(self._hear(command))
        saying = asyncio.ensure_future(self._speak(command))
        try:
            await asyncio.wait({hearing, saying}, return_when=asyncio.FIRST_EXCEPTION)
            if saying.done() and isinstance(saying.exception(), BrokenPipeError):
                await hearing  # it has left, and said why
            else:
                await asyncio.gather(hearing, saying)
        finally:
            for task in (hearing, saying):
                task.cancel()
            await asyncio.wait({hearing, saying})
        if not self._end.is_over:
            with contextlib.suppress(subprocess.TimeoutExpired, CommandServerError):
                await command.wait(LAST_WORDS_SECONDS)
            raise Fault(0, _last_words(command), "", is_far=True)
        await self._progress(is_over=True)

    async def close(self) -> None:
        """Returns when the end has put away what it had open."""
        if self._step is not None and not self._step.done():
            await asyncio.wait({self._step})
        await asyncio.get_running_loop().run_in_executor(None, self._end.close)

    async def _hear(self, command: AsyncCommand) -> None:
        assert command.stdout is not None
        while not self._end.is_over:
            if self._end.is_amid:
                await asyncio.sleep(GATHER_SECONDS)
            data = await command.stdout.read(READ_SIZE)
            if not data:
                break
            await self._do(self._end.receive, data)
            self._news.set()
            await self._progress()
        self._has_heard_all = True
        self._news.set()

    async def _speak(self, command: AsyncCommand) -> None:
        assert command.stdin is not None
        while True:
            self._news.clear()
            data = await self._do(self._end.produce)
            if data:
                await command.stdin.write(data)
                await self._progress()
            elif self._has_heard_all:
                break
            else:
                await self._news.wait()
        command.stdin.close()

    async def _do(self, work: Callable[..., T], *words: Any) -> T:
        """One step of the end, in a thread: whoever is cancelled leaves it to its end."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            self._step = step = loop.run_in_executor(None, work, *words)
            return await asyncio.shield(step)

    async def _progress(self, *, is_over: bool = False) -> None:
        now = time.monotonic()
        if self._tell is None or (now - self._told < 1 / TELLS_PER_SECOND and not is_over):
            return
        self._told = now
        end, tally = self._end, self._end.tally
        await self._tell(
            Progress(
                files=tally.files_done,
                files_total=max(end.files_total, tally.files_done),
                bytes=tally.bytes_done,
                bytes_total=max(end.bytes_total, tally.bytes_done),
                name=tally.name,
                is_over=is_over,
            )
        )


def in_the_loop(progress: Listener) -> Tell:
    """A listener that is called where the bridge lives."""
    if progress is None:
        return None

    async def tell(now: Progress) -> None:
        progress(now)

    return tell


def at_the_desk(progress: Listener, desk: Desk) -> Tell:
    """A listener that is called by the thread that waits at `desk`: the caller's."""
    if progress is None:
        return None

    async def tell(now: Progress) -> None:
        await asyncio.to_thread(desk.do, lambda: progress(now))

    return tell


def _last_words(command: AsyncCommand) -> str:
    _, said = command.collected()
    text = (said or b"").decode("utf-8", "replace").strip()
    last = text.splitlines()[-1] if text else f"it ended with status {command.returncode}"
    return f"the far end of the transfer broke off: {last}"


def absolute(local: str) -> str:
    """A local path as the user wrote it; a slash at its end stays."""
    place = os.path.expanduser(local)
    whole = os.path.abspath(place)
    return os.path.join(whole, "") if names_a_folder(place) else whole


def _texts(patterns: Patterns, name: str) -> tuple[str, ...]:
    if isinstance(patterns, (str, bytes)):
        raise TypeError(f"{name} is a list of patterns, not {patterns!r}")
    return tuple(on_wire(os.fspath(one)) for one in patterns)
