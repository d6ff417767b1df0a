"""AsyncBridge: run commands on the head, from a coroutine.

Holds one talk and hands out commands; it neither knows how the talk was reached nor gets
another one.  The keywords and errors of `run` and `popen` are those of subprocess.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, cast

from ..errors import LinkLost
from ..protocol.messages import NULL, PIPE, Start
from ..settings import Settings
from .command import AsyncCommand
from .ladder import Ascent, climb
from .request import Words, request, way
from .result import Result, Wish
from .status import BridgeStatus
from .text import encode

__all__ = ["AsyncBridge", "Words"]

STATUS_SECONDS = 5.0  # a server that does not answer so long is as good as gone


class AsyncBridge:
    """A connection to the command server on a head; make it with `AsyncBridge.connect`."""

    def __init__(
        self,
        ascent: Ascent,
        keep_env: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._ascent = ascent
        self._talk = ascent.talk
        self._keep_env = tuple(keep_env)
        self._environment = environment or {}

    @classmethod
    async def connect(
        cls, addr: str | None = None, port: int | None = None, **keywords: Any
    ) -> AsyncBridge:
        """Reaches the head; the keywords are those of `init_command_server`.

        Raises the CommandServerError that says best why no rung held.
        """
        return await cls.from_settings(Settings.gather(addr=addr, port=port, **keywords))

    @classmethod
    async def from_settings(cls, settings: Settings) -> AsyncBridge:
        """As `connect`, from settings that were gathered before."""
        return cls(await climb(settings), settings.keep_env, settings.environment)

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
    ) -> subprocess.CompletedProcess[Any]:
        """Runs a command to its end, as subprocess.run with capture_output does.

        `cwd` and the program are those of the head; `env` is added to the environment of
        the server; `timeout`, in seconds, ends the whole process group.  Without `input`
        its stdin is empty.  Text is UTF-8, undecodable bytes become U+FFFD, unless
        `encoding` and `errors` say otherwise.

        Raises FileNotFoundError and PermissionError for the program or `cwd`,
        subprocess.TimeoutExpired, with `check` subprocess.CalledProcessError, and LinkLost
        where the answer cannot come.
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
        )
        data = encode(input, wish.encoding, wish.errors)
        return Result(self._talk, wanted, data, wish, when_over)

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
    ) -> AsyncCommand:
        """Starts a command and returns when it runs; streams are bytes.

        Each stream is PIPE or DEVNULL of subprocess, stderr also STDOUT.  Raises as `run`.
        """
        wanted = self._request(
            args,
            shell=shell,
            cwd=cwd,
            env=env,
            stdin=way(stdin, "stdin"),
            stdout=way(stdout, "stdout"),
            stderr=way(stderr, "stderr"),
        )
        command = AsyncCommand(self._talk, wanted, args)
        command.request_start()
        try:
            await command.wait_started()
        except BaseException:
            command.abandon()
            raise
        return command

    async def status(self) -> BridgeStatus:
        """How things are, asked of the server now; `connected` tells whether it answered."""
        welcome, ascent = self._talk.welcome, self._ascent
        about: dict[str, Any] = {}
        try:
            report = await self._talk.inquire(STATUS_SECONDS)
        except LinkLost as lost:
            about = {"connected": False, "fault": lost.what}
        else:
            about = {
                "connected": True,
                "clients": report.clients,
                "running": report.running,
                "server_python": report.python,
                "server_zmq": report.zmq,
                "server_log": report.log,
            }
        return BridgeStatus(
            transport=ascent.transport,
            endpoint=self._talk.link.info.peer,
            server_host=welcome.host,
            server_pid=welcome.pid,
            version=welcome.version,
            started=ascent.started,
            rungs=ascent.rungs,
            stages=ascent.stages,
            **about,
        )

    async def close(self) -> None:
        """Leaves the server running; commands that still run are ended after a grace."""
        await self._ascent.close()

    async def leave(self) -> None:
        """Closes at the end of the program, without a word to whoever still waits."""
        self._talk.disown()
        await self.close()

    async def shutdown(self, grace: float = 5.0) -> None:
        """Ends the server, all its commands (after `grace` seconds) and this bridge."""
        try:
            await self._talk.stop_server(grace)
        finally:
            await self.close()

    def _request(self, args: Words, **fields: Any) -> Start:
        return request(args, caller=self._environment, keep_env=self._keep_env, **fields)

    async def __aenter__(self) -> AsyncBridge:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def described(self) -> str:
        """Its state in a few words, for `repr`."""
        state = "connected" if self._talk.fault is None else "not connected"
        return f"{state} by {self._ascent.transport} to {self._talk.welcome.host}"

    def __repr__(self) -> str:
        return f"<AsyncBridge {self.described}>"


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
