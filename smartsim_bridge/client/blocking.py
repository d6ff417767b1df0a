"""Bridge and Command: the same as their async twins, for code that does not await.

A thin face: every call goes through the portal to the one event loop.  Any thread may
call, several at once, also from within a running event loop (a notebook's).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import BridgeClosed
from ..settings import Settings
from ..ssh.ask import default_ask
from .bridge import AsyncBridge, Words
from .command import AsyncCommand
from .command_list import CommandList
from .desk import Desk
from .markup import NEUTRAL, Mark, box, heading
from .pipes import TextMode, open_input, open_output
from .portal import Portal, portal
from .result import Result, Wish
from .status import BridgeStatus
from .text import decode, encode

if TYPE_CHECKING:
    from ..files.report import FilesReport, Listener, SyncReport
    from .transfer import Files

__all__ = ["Bridge", "Command", "Companion"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def _as_told_by(twin: Callable[..., Any]) -> Callable[[F], F]:
    """Gives a method the docstring of its async twin: one text, told once."""

    def tell(method: F) -> F:
        method.__doc__ = twin.__doc__
        return method

    return tell


class Companion(Protocol):
    """What lives as long as a bridge does, and is closed with it."""

    def part(self) -> None:
        """The bridge is about to be closed, and its server stays; raises nothing."""

    def close(self) -> None:
        """The bridge was closed; raises nothing."""

    def describe(self, status: BridgeStatus) -> BridgeStatus:
        """The bridge's status, with what is to be said of this."""


class Bridge:
    """A connection to the command server on a head; `init_command_server` makes it."""

    def __init__(self, bridge: AsyncBridge, through: Portal, settings: Settings) -> None:
        self._bridge = bridge
        self._settings = settings
        self._portal = through
        self._closed = False
        self._companions: list[Companion] = []

    @classmethod
    def from_settings(cls, settings: Settings, *, dismiss: bool = False) -> Bridge:
        """Reaches the head; raises the CommandServerError that says best why no rung held.

        With `dismiss` a server that speaks another protocol is ended, and WishGranted raised.
        """
        through, desk = portal(), Desk()
        here = _asking_here(settings, desk)
        climbing = AsyncBridge.from_settings(here, dismiss=dismiss)
        return cls(through.call(climbing, desk), through, settings)

    @_as_told_by(AsyncBridge.run)
    def run(
        self,
        args: Words,
        *,
        input: str | bytes | None = None,
        stderr: int | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        shell: bool = False,
        text: bool = True,
        encoding: str | None = None,
        errors: str | None = None,
        keep: bool | None = None,
        grace: float | None = None,
    ) -> subprocess.CompletedProcess[Any]:
        wish = Wish(args, timeout, check, text, encoding, errors)
        result = self._open().wait_for(
            lambda done: self._bridge.begin(
                wish,
                done,
                input=input,
                stderr=stderr,
                cwd=cwd,
                env=env,
                shell=shell,
                keep=keep,
                grace=grace,
            ),
            Result.interrupt,
        )
        return result.completed()

    def popen(
        self,
        args: Words,
        *,
        stdin: int | None = subprocess.PIPE,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        shell: bool = False,
        text: bool = True,
        encoding: str | None = None,
        errors: str | None = None,
        keep: bool | None = None,
        grace: float | None = None,
    ) -> Command:
        """Starts a command and returns when it runs; streams are text, as in `run`, or bytes.

        Each stream is PIPE or DEVNULL of subprocess, stderr also STDOUT.  `keep` and `grace`
        and what is raised: as for `run`.
        """
        through = self._open()
        command = through.call(
            self._bridge.popen(
                args,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                shell=shell,
                keep=keep,
                grace=grace,
            )
        )
        return Command(command, through, _mode(text, encoding, errors))

    @_as_told_by(AsyncBridge.start)
    def start(
        self,
        args: Words,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        shell: bool = False,
    ) -> str:
        return self._open().call(self._bridge.start(args, cwd=cwd, env=env, shell=shell))

    @_as_told_by(AsyncBridge.commands)
    def commands(self) -> CommandList:
        return self._open().call(self._bridge.commands())

    def attach(
        self,
        command_id: str,
        *,
        stdout: int = 0,
        stderr: int = 0,
        text: bool = True,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Command:
        """Follows a command that this or another client started, as `popen` would give it.

        `command_id` may be cut short where it is still unique.  Output begins at the offsets
        `stdout` and `stderr`, in bytes, or where the head's memory of it begins.  Who followed
        it before gets CommandTaken.  Raises NoSuchCommand, CommandLost where nobody knows what
        became of it, LinkLost.
        """
        through = self._open()
        command = through.call(self._bridge.attach(command_id, stdout=stdout, stderr=stderr))
        return Command(command, through, _mode(text, encoding, errors))

    @_as_told_by(AsyncBridge.put)
    def put(
        self,
        local: str | os.PathLike[str],
        remote: str | os.PathLike[str],
        *,
        symlinks: str = "keep",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_size: int | None = None,
        progress: Listener = None,
    ) -> FilesReport:
        names = (os.fspath(local), os.fspath(remote))
        return self._move(
            progress,
            lambda files: files.put(
                *names, symlinks=symlinks, include=include, exclude=exclude, max_size=max_size
            ),
        )

    @_as_told_by(AsyncBridge.get)
    def get(
        self,
        remote: str | os.PathLike[str],
        local: str | os.PathLike[str],
        *,
        symlinks: str = "keep",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_size: int | None = None,
        progress: Listener = None,
    ) -> FilesReport:
        names = (os.fspath(remote), os.fspath(local))
        return self._move(
            progress,
            lambda files: files.get(
                *names, symlinks=symlinks, include=include, exclude=exclude, max_size=max_size
            ),
        )

    @_as_told_by(AsyncBridge.sync)
    def sync(
        self,
        folder: str | os.PathLike[str],
        remote: str | os.PathLike[str],
        *,
        direction: str = "up",
        delete: bool = False,
        keep_newer: bool = False,
        symlinks: str = "keep",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_size: int | None = None,
        progress: Listener = None,
    ) -> SyncReport:
        names = (os.fspath(folder), os.fspath(remote))
        return self._move(
            progress,
            lambda files: files.sync(
                *names,
                direction=direction,
                delete=delete,
                keep_newer=keep_newer,
                symlinks=symlinks,
                include=include,
                exclude=exclude,
                max_size=max_size,
            ),
        )

    @_as_told_by(AsyncBridge.when_link_changes)
    def when_link_changes(self, tell: Callable[[bool], object]) -> None:
        self._open().call(self._bridge.when_link_changes(tell))

    @_as_told_by(AsyncBridge.stop_telling)
    def stop_telling(self, tell: Callable[[bool], object]) -> None:
        self._open().call(self._bridge.stop_telling(tell))

    @property
    def is_linked(self) -> bool:
        """Whether it is open and has a link now; one that was lost is sought."""
        return not self._closed and self._bridge.is_linked

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or belongs to the parent process: another one is needed."""
        return self._closed or not self._portal.is_ours

    @_as_told_by(AsyncBridge.reconnect)
    def reconnect(self) -> None:
        desk = Desk()
        here = _asking_here(self._settings, desk)
        self._open().call(self._bridge.reconnect_with(here), desk)

    @_as_told_by(AsyncBridge.replace_server)
    def replace_server(self) -> BridgeStatus:
        desk = Desk()
        here = _asking_here(self._settings, desk)
        return self._open().call(self._bridge.replace_server_with(here), desk)

    @_as_told_by(AsyncBridge.status)
    def status(self) -> BridgeStatus:
        status = self._open().call(self._bridge.status())
        for companion in self._companions:
            status = companion.describe(status)
        return status

    @_as_told_by(AsyncBridge.close)
    def close(self) -> None:
        if not self._closed:
            with self._closing():
                if self._portal.is_ours:
                    self._part()
                    self._portal.call(self._bridge.close())

    @_as_told_by(AsyncBridge.leave)
    def leave(self) -> None:
        if not self._closed and self._portal.is_ours:
            with self._closing():
                self._part()
                self._portal.call(self._bridge.leave())

    @_as_told_by(AsyncBridge.shutdown)
    def shutdown(self, grace: float = 5.0) -> None:
        through = self._open()
        with self._closing():
            through.call(self._bridge.shutdown(grace))

    def accompany(self, companion: Companion) -> None:
        """Has it closed with this bridge, the one that came last first."""
        self._companions.append(companion)

    @property
    def core(self) -> AsyncBridge:
        """The same bridge, for coroutines in the loop of `portal`."""
        return self._bridge

    @property
    def portal(self) -> Portal:
        """The way into the loop in which `core` lives."""
        return self._portal

    def _move(self, progress: Listener, begin: Callable[[Files], Coroutine[Any, Any, T]]) -> T:
        """A transfer; its progress is told by this thread, the caller's."""
        from .transfer import Files, at_the_desk

        through = self._open()
        desk = None if progress is None else Desk()
        tell = None if desk is None else at_the_desk(progress, desk)
        return through.call(begin(Files(self._bridge, tell)), desk)

    def _part(self) -> None:
        for companion in self._companions:
            companion.part()

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """Companions go last: what they wait for is told by then that it will not come."""
        self._closed = True
        try:
            yield
        finally:
            while self._companions:
                self._companions.pop().close()

    def _open(self) -> Portal:
        if self._closed:
            raise BridgeClosed("This bridge was closed")
        if not self._portal.is_ours:
            raise BridgeClosed("This bridge belongs to the parent process")
        return self._portal

    def __enter__(self) -> Bridge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Bridge closed>" if self._closed else f"<Bridge {self._bridge.described}>"

    def _repr_html_(self) -> str:
        if self._closed:
            return box(heading(Mark("●", NEUTRAL, "Bridge closed")))
        return self._bridge._repr_html_()


class Command:
    """A command that runs, or ran, on the head; attributes and methods as subprocess.Popen."""

    def __init__(self, command: AsyncCommand, through: Portal, text: TextMode) -> None:
        self._command = command
        self._portal = through
        self._text = text
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        if command.stdin is not None:
            self.stdin = open_input(command.stdin, through, text)
        if command.stdout is not None:
            self.stdout = open_output(command.stdout, through, text)
        if command.stderr is not None:
            self.stderr = open_output(command.stderr, through, text)

    @property
    def id(self) -> str:
        """The command's id, the same on the head."""
        return self._command.id

    @property
    def args(self) -> object:
        """What it was started with."""
        return self._command.args

    @property
    def pid(self) -> int:
        """Its process id on the head."""
        return self._command.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal, None while it runs."""
        return self._command.returncode

    @property
    def age(self) -> float:
        """How many seconds older than the question the run was that answered; 0 for its own."""
        return self._command.age

    @_as_told_by(AsyncCommand.poll)
    def poll(self) -> int | None:
        return self._portal.call(self._command.poll())

    @_as_told_by(AsyncCommand.wait)
    def wait(self, timeout: float | None = None) -> int:
        return self._portal.call(self._command.wait(timeout))

    @_as_told_by(AsyncCommand.communicate)
    def communicate(
        self, input: str | bytes | None = None, timeout: float | None = None
    ) -> tuple[Any, Any]:
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.flush()
        encoding, errors = self._text or (None, None)
        data = encode(input, encoding, errors)
        out, err = self._portal.call(self._command.communicate(data, timeout))
        if self._text is None:
            return out, err
        return decode(out, encoding, errors), decode(err, encoding, errors)

    @_as_told_by(AsyncCommand.send_signal)
    def send_signal(self, number: int) -> None:
        self._portal.call(self._command.send_signal(number))

    @_as_told_by(AsyncCommand.terminate)
    def terminate(self) -> None:
        self._portal.call(self._command.terminate())

    @_as_told_by(AsyncCommand.kill)
    def kill(self) -> None:
        self._portal.call(self._command.kill())

    @_as_told_by(AsyncCommand.detach)
    def detach(self) -> str:
        return self._portal.call(self._command.detach())

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the streams and waits, as subprocess.Popen does."""
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def __repr__(self) -> str:
        return repr(self._command).replace("AsyncCommand", "Command", 1)


def _asking_here(settings: Settings, desk: Desk) -> Settings:
    """Has its questions answered by the thread that waits at `desk`: the caller's."""
    ask = settings.ask or default_ask()
    return replace(settings, ask=lambda prompt, secret: desk.do(lambda: ask(prompt, secret)))


def _mode(text: bool, encoding: str | None, errors: str | None) -> TextMode:
    return (encoding, errors) if text or encoding or errors else None
