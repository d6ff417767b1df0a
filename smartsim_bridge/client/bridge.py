"""AsyncBridge: run commands on the head, from a coroutine.

Holds one session and hands out commands; what becomes of links is the session's business.
The keywords and errors of `run` and `popen` are those of subprocess.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ..errors import CommandServerError, LinkLost, NoSuchCommand, RequestRefused
from ..protocol.environment import left_behind
from ..protocol.messages import NULL, PIPE, Attach, Located, Start
from ..settings import Settings
from ..ssh.ask import Unattended
from .command import AsyncCommand
from .command_list import CommandList
from .ladder import climb
from .listing import CommandInfo
from .markup import BAD, GOOD, Mark, box, heading
from .replace import replace_server
from .request import Words, byte_offset, request, way
from .result import Result, Wish
from .session import Session
from .status import BridgeStatus
from .text import encode

if TYPE_CHECKING:
    from ..files.report import FilesReport, Listener, SyncReport
    from .transfer import Files

__all__ = ["AsyncBridge", "Words"]

STATUS_SECONDS = 5.0  # a server that does not answer so long is as good as gone
LIST_SECONDS = 15.0  # for some thousands of commands over a slow link
TELL_SECONDS = 30.0  # for a link to come back over which the server is told to end
ID_LENGTH = 32  # hexadecimal digits of a command's id
LONGEST_ID = 128  # of one that another client may have drawn

_NOBODY = Unattended(
    "The link was lost, and nobody is asked behind his back",
    "Call bridge.reconnect(), which may ask you; the commands go on meanwhile, "
    "bridge.commands() and attach() find them.",
)


class AsyncBridge:
    """A connection to the command server on a head; make it with `AsyncBridge.connect`."""

    def __init__(
        self, session: Session, settings: Settings, *, waits_for_user: bool = False
    ) -> None:
        self._session = session
        self._settings = settings
        self._waits_for_user = waits_for_user

    @classmethod
    async def connect(
        cls, addr: str | None = None, port: int | None = None, **keywords: Any
    ) -> AsyncBridge:
        """Reaches the head; the keywords are those of `init_command_server`.

        Raises the CommandServerError that says best why no rung held.
        """
        return await cls.from_settings(Settings.gather(addr=addr, port=port, **keywords))

    @classmethod
    async def from_settings(cls, settings: Settings, *, dismiss: bool = False) -> AsyncBridge:
        """As `connect`, from settings that were gathered before.

        With `dismiss` a server that speaks another protocol is ended, and WishGranted raised.
        """
        name = uuid.uuid4().hex
        quiet = replace(settings, ask=_NOBODY, on_stage=None)
        ascent = await climb(settings, name, dismiss=dismiss)
        again = partial(climb, quiet, name)
        return cls(Session(name, ascent, again, settings.reconnect), settings)

    async def run(
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
        """Runs a command to its end, as subprocess.run with capture_output does.

        `cwd` and the program are those of the head; `env` is added to the environment of
        the server; `timeout`, in seconds, ends the whole process group.  Without `input`
        its stdin is empty.  Text is UTF-8, undecodable bytes become U+FFFD, unless
        `encoding` and `errors` say otherwise.

        A link that is lost meanwhile is sought again, and the call just takes longer.  When
        this client is gone for good, the command goes on with `keep`, which is the default
        for sbatch and its like; others end after `grace` seconds (default: 10 after `close`,
        60 after a broken connection, a day where nothing tells what happened).

        Raises FileNotFoundError and PermissionError for the program or `cwd`,
        subprocess.TimeoutExpired, with `check` subprocess.CalledProcessError; LinkLost where
        no link comes back, AuthenticationRequired where only the user could make one, and
        CommandLost where nobody can know whether it ran.
        """
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        result = self.begin(
            Wish(args, timeout, check, text, encoding, errors),
            partial(_settle, over),
            input=input,
            stderr=stderr,
            cwd=cwd,
            env=env,
            shell=shell,
            keep=keep,
            grace=grace,
        )
        try:
            await over
        except BaseException:
            result.abandon()
            raise
        return result.completed()

    def begin(
        self,
        wish: Wish,
        when_over: Callable[[], object],
        *,
        input: str | bytes | None,
        stderr: int | None,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        shell: bool,
        keep: bool | None = None,
        grace: float | None = None,
    ) -> Result:
        """The first half of `run`, for a caller that waits in its own way."""
        wanted = self._request(
            cast(Words, wish.args),
            shell=shell,
            cwd=cwd,
            env=env,
            stdin=NULL if input is None else PIPE,
            stderr=PIPE if stderr is None else way(stderr, "stderr"),
            timeout=wish.timeout,
            announce=False,
            keep=keep,
            grace=grace,
        )
        data = encode(input, wish.encoding, wish.errors)
        return Result(self._session, wanted, data, wish, when_over)

    async def popen(
        self,
        args: Words,
        *,
        stdin: int | None = subprocess.PIPE,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        shell: bool = False,
        keep: bool | None = None,
        grace: float | None = None,
    ) -> AsyncCommand:
        """Starts a command and returns when it runs; streams are bytes.

        Each stream is PIPE or DEVNULL of subprocess, stderr also STDOUT.  `keep` and `grace`
        and what is raised: as for `run`.
        """
        if self._waits_for_user:
            await self._session.when_sought()
        wanted = self._request(
            args,
            shell=shell,
            cwd=cwd,
            env=env,
            stdin=way(stdin, "stdin"),
            stdout=way(stdout, "stdout"),
            stderr=way(stderr, "stderr"),
            keep=keep,
            grace=grace,
        )
        return await self._started(wanted, args)

    async def start(
        self,
        args: Words,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        shell: bool = False,
    ) -> str:
        """Starts a command that goes on by itself, and gives its id, for `attach`.

        Its stdin is empty, and its output is kept from the first byte, also when it ends
        before this returns.  Raises as `popen`.
        """
        wanted = self._request(args, shell=shell, cwd=cwd, env=env, stdin=NULL, keep=True)
        self._session.spare(wanted.command)
        command = AsyncCommand(self._session, wanted, args)
        command.request_start()
        try:
            await command.wait_started()
        except BaseException:
            command.abandon()
            raise
        return await command.detach()

    async def commands(self) -> CommandList:
        """The commands on the head, of all your clients: those that run and those that ended.

        Oldest first, in a list that prints itself, and shows itself in a notebook, as a table.
        The head remembers a limited number.  Raises LinkLost.
        """
        entries = await self._session.list_commands(LIST_SECONDS)
        return CommandList(CommandInfo.of(entry) for entry in entries)

    async def locate(
        self, programs: Iterable[str], *, file: str, content: bytes, timeout: float
    ) -> Located | None:
        """Where the head has these programs, and whether `file` has this content there, too.

        Runs no command.  None from a server that is too old to know.  Raises LinkLost.
        """
        return await self._session.locate(tuple(programs), file, content, timeout)

    async def attach(self, command_id: str, *, stdout: int = 0, stderr: int = 0) -> AsyncCommand:
        """Follows a command that this or another client started; streams are bytes.

        `command_id` may be cut short where it is still unique.  Output begins at the offsets
        `stdout` and `stderr`, in bytes, or where the head's memory of it begins.  Who followed
        it before gets CommandTaken.  Raises NoSuchCommand, CommandLost where nobody knows what
        became of it, LinkLost.
        """
        begins = byte_offset(stdout), byte_offset(stderr)
        name = await self._in_full(command_id)
        self._session.spare(name)  # somebody else may attach after us
        command = AsyncCommand(self._session, Attach(name, *begins), [name])
        command.request_start()
        await command.wait_attached()
        return command

    async def put(
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
        """Copies a file, or a folder with all that is in it, to the head.

        `remote` is how it is called there, whatever it is called here; with a slash at its end,
        the folder that it is put into under its own name.  Relative to the home, as `~` is.
        Folders on the way are made, what is in a folder that is there stays.  Modes and mtimes
        are kept.  Each file appears under its name when it is complete; a large one of an
        earlier attempt that broke off is gone on with.

        `symlinks` inside: "keep", "follow" or "skip" them.  `include` and `exclude` are patterns
        like those of .gitignore.  `progress` is called with a Progress, ten times a second at
        most.

        Raises what open() raises for what is named; DiskFull; TransferIncomplete at the end,
        where something in it could not be moved; TransferFailed; LinkLost as `run`.
        """
        return await self._files(progress).put(
            os.fspath(local),
            os.fspath(remote),
            symlinks=symlinks,
            include=include,
            exclude=exclude,
            max_size=max_size,
        )

    async def get(
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
        """Copies a file, or a folder with all that is in it, from the head.

        `put` the other way round: `local` is how it is called here, or with a slash at its end
        the folder that it is put into.
        """
        return await self._files(progress).get(
            os.fspath(remote),
            os.fspath(local),
            symlinks=symlinks,
            include=include,
            exclude=exclude,
            max_size=max_size,
        )

    async def sync(
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
        """Moves what differs between a folder here and one on the head.

        Both are the folders themselves, with or without a slash.  A file is the same where size
        and mtime are; where only the mtime differs its content decides.  "up" makes the head's
        like this one, "down" this one like the head's; "both" moves what changed since the last
        sync of the two, and what changed on both sides is a conflict: told, and not touched.

        With `delete` what was removed on one side is removed on the other.  With `keep_newer` a
        file that is newer than what would replace it is a conflict, too.  What `include`,
        `exclude` and `max_size` leave out is neither moved nor deleted.  The others, and what is
        raised: as for `put`.
        """
        return await self._files(progress).sync(
            os.fspath(folder),
            os.fspath(remote),
            direction=direction,
            delete=delete,
            keep_newer=keep_newer,
            symlinks=symlinks,
            include=include,
            exclude=exclude,
            max_size=max_size,
        )

    async def own_program(self, name: str, *words: str) -> AsyncCommand:
        """Starts a program of the far half itself, with all streams piped.

        Raises RequestRefused where the server is too old to have it; else as `popen`.
        """
        if name not in self._session.talk.welcome.programs:
            what = f"The server, version {self._session.talk.welcome.version}, cannot do it"
            advice = "bridge.replace_server(), or `smartsim-bridge start`, brings it up to date."
            raise RequestRefused(what, host=self.host, step=name, advice=advice)
        asked = self._request((name, *words), shell=False, cwd=None, env=None)
        wanted = replace(asked, own=True)
        return await self._started(wanted, [name, *words])

    async def status(self) -> BridgeStatus:
        """How things are, asked of the server now; `connected` tells whether it answered."""
        session = self._session
        about: dict[str, Any] = {"connected": False}
        fault = session.fault or session.talk.fault
        if fault is None:
            try:
                report = await session.talk.inquire(STATUS_SECONDS)
            except CommandServerError as lost:
                fault = lost
            else:
                about = {
                    "connected": True,
                    "clients": report.clients,
                    "running": report.running,
                    "waiting": report.waiting,
                    "server_python": report.python,
                    "server_zmq": report.zmq,
                    "server_log": report.log,
                    "polls": report.polls,
                    "joined": report.joined,
                    "poll_cache": report.poll_cache,
                }
        ascent, welcome = session.ascent, session.talk.welcome
        return BridgeStatus(
            transport=ascent.transport,
            endpoint=session.talk.link.info.peer,
            server_host=welcome.host,
            server_pid=welcome.pid,
            version=welcome.version,
            started=ascent.started,
            rungs=ascent.rungs,
            stages=ascent.stages,
            reconnects=session.reconnects,
            fault="" if fault is None else fault.what,
            others=ascent.others,
            left_behind=left_behind(self._settings.environment, self._settings.keep_env),
            **about,
        )

    async def when_link_changes(self, tell: Callable[[bool], object]) -> None:
        """Has `tell` called with False when the link is lost and sought, and True when one is back.

        In the thread of the event loop, so it must not wait.  Several may be told; see
        `stop_telling`.
        """
        self._session.on_change.append(tell)

    async def stop_telling(self, tell: Callable[[bool], object]) -> None:
        """The end of `when_link_changes(tell)`; where it was not told, nothing."""
        if tell in self._session.on_change:
            self._session.on_change.remove(tell)

    async def given_up(self) -> CommandServerError:
        """Returns when no link is sought any more, with the reason; calls may still seek one."""
        return await self._session.given_up()

    async def reconnect(self) -> None:
        """Connects again after the link was lost, asking the user where the login needs him.

        A lost link is sought again by itself; this is for after AuthenticationRequired, or for
        who does not want to wait.  Raises as `connect`.
        """
        await self.reconnect_with(self._settings)

    async def reconnect_with(self, settings: Settings) -> None:
        """As `reconnect`, with other answers to what the login asks."""
        await self._session.reconnect(partial(climb, settings, self._session.id))

    async def replace_server(self) -> BridgeStatus:
        """Has the server go on as this version, with all its commands; how things are then.

        They notice nothing, clients only that the link is lost for a moment.  Puts the far half
        on the head where it is not there yet.  Raises RequestRefused where the server cannot
        go on as this version, and everything is as it was; what `connect` raises for the way
        there.
        """
        return await self.replace_server_with(self._settings)

    async def replace_server_with(self, settings: Settings) -> BridgeStatus:
        """As `replace_server`, with other answers to what a login asks."""
        await replace_server(self._session, settings)
        return await self.status()

    async def close(self) -> None:
        """Leaves the server running; commands that still run are ended after a grace.

        Those that submit a job, were started with `keep` or detached from go on.
        """
        await self._session.close()

    async def leave(self) -> None:
        """Closes at the end of the program, without a word to whoever still waits."""
        self._session.disown()
        await self.close()

    async def shutdown(self, grace: float = 5.0) -> None:
        """Ends the server, all its commands (after `grace` seconds) and this bridge.

        Raises LinkLost where the server cannot be told within half a minute.
        """
        try:
            talk = await asyncio.wait_for(self._session.linked(), TELL_SECONDS)
            await talk.stop_server(grace)
        except asyncio.TimeoutError:
            raise LinkLost("There is no link to tell the server to end", step="stop") from None
        finally:
            await self.close()

    async def _in_full(self, command_id: str) -> str:
        if not isinstance(command_id, str):
            raise TypeError(f"the id of a command is text, not {type(command_id).__name__}")
        names: list[str] = []
        if ID_LENGTH <= len(command_id) <= LONGEST_ID and command_id.isprintable():
            names = [command_id]
        elif 0 < len(command_id) < ID_LENGTH:
            entries = await self._session.list_commands(LIST_SECONDS)
            names = [one.command for one in entries if one.command.startswith(command_id)]
        if len(names) != 1:
            what = f"{len(names)} commands begin with" if names else "There is no command"
            host = self._session.talk.welcome.host
            raise NoSuchCommand(f"{what} {command_id[:ID_LENGTH]!r}", host=host, step="attach")
        return names[0]

    async def _started(self, wanted: Start, args: object) -> AsyncCommand:
        command = AsyncCommand(self._session, wanted, args)
        command.waits_for_user = self._waits_for_user
        command.request_start()
        try:
            await command.wait_started()
        except BaseException:
            command.abandon()
            raise
        return command

    def _files(self, progress: Listener) -> Files:
        from .transfer import Files, in_the_loop

        return Files(self, in_the_loop(progress))

    def _request(self, args: Words, **fields: Any) -> Start:
        return request(
            args,
            caller=self._settings.environment,
            keep_env=self._settings.keep_env,
            number=self._session.next_number(),
            **fields,
        )

    async def __aenter__(self) -> AsyncBridge:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def on_behalf_of(
        self, environment: Mapping[str, str], *, waits_for_user: bool = False
    ) -> AsyncBridge:
        """The same bridge for a caller with another environment, of which `keep_env` tells.

        With `waits_for_user` its commands wait, as long as a lost link is sought, also where
        only `reconnect` can bring one.
        """
        settings = replace(self._settings, environment=environment)
        return AsyncBridge(self._session, settings, waits_for_user=waits_for_user)

    @property
    def host(self) -> str:
        """The head's name for itself."""
        return self._session.talk.welcome.host

    @property
    def spelled(self) -> tuple[str, str]:
        """The head and the user there, as they were asked for."""
        return self._settings.addr, self._settings.user or ""

    @property
    def sync_directory(self) -> str:
        """Where it is kept what two folders had in common at their last sync."""
        return self._settings.sync_directory

    @property
    def is_linked(self) -> bool:
        """Whether there is a link now, as far as we know; one that was lost is sought."""
        return self._session.is_linked

    @property
    def is_closed(self) -> bool:
        """Whether it was closed: another one is needed."""
        return self._session.is_closed

    @property
    def described(self) -> str:
        """Its state in a few words, for `repr`."""
        session = self._session
        state = "connected" if self.is_linked else "not connected"
        return f"{state} by {session.ascent.transport} to {session.talk.welcome.host}"

    def __repr__(self) -> str:
        return f"<AsyncBridge {self.described}>"

    def _repr_html_(self) -> str:
        """For a notebook; as `repr`, it asks nobody."""
        colour = GOOD if self.is_linked else BAD
        return box(heading(Mark("●", colour, f"Bridge {self.described}")))


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
