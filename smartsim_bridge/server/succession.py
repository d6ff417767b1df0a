"""How a server gives way to another version of itself without ending a command.

The process stays and executes the other program: its children stay its children, the lock
stays locked, the beacon stays true.  The other program is asked first whether it can go on
from here; as long as that is not sure nothing has happened.  Knows neither what is handed
over nor who asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import NoReturn

from ..errors import ServerStartFailed
from .exits import ExitWatch
from .handover import FORMAT, OLDEST_FORMAT

__all__ = ["ENDING", "answer_check", "check", "execute", "site_options", "uninterrupted"]

CHECK_SECONDS = 15.0  # for a Python to come up and import all; a cold shared home may be slow
SAID_BYTES = 4096  # of what it says
WHY_LENGTH = 300  # characters, of why pyzmq cannot be imported
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # what would end a server half-way


async def check(
    python: str, path: str, watch: ExitWatch, *, needs_zmq: bool, site: str = ""
) -> str:
    """The version of the far half at `path`, which can go on from where this server is.

    `site` is where it is to import pyzmq from.  Raises ServerStartFailed, and nothing has happened.
    """
    _check_file(path)
    # One that knows of no `--site` says so now, and is not asked to serve with it.
    status, said = await _ask([python, path, "check", *site_options(site)], watch)
    if status != 0:
        raise _refused(f"it fails with status {status}: {_last_line(said)}")
    try:
        found = json.loads(_last_line(said))
        version, formats, zmq = found["version"], found["handover"], found["zmq"]
        can_read = formats[0] <= FORMAT <= formats[1]
    except (ValueError, TypeError, LookupError):
        raise _refused(f"it does not say what it is: {_last_line(said)}") from None
    if not can_read:
        raise _refused(f"version {version} cannot take over from this one")
    if needs_zmq and not zmq:
        raise _refused(f"{python} has no pyzmq that works: clients would lose their way")
    return str(version)


def site_options(site: str) -> list[str]:
    """How a far half is told where pyzmq is."""
    return ["--site", site] if site else []


def answer_check(version: str) -> str:
    """What the far half says when it is asked whether it can take over."""
    try:
        from ..links import zmq_socket

        import_module("..links.zmq_listener", __package__)
        zmq_socket.check_version()
        zmq, why = sys.modules["zmq"].__version__, ""
    except Exception as broken:  # noqa: BLE001 - a half-installed pyzmq raises anything
        zmq, why = "", " ".join(str(broken).split())[:WHY_LENGTH] or type(broken).__name__
    said = {"version": version, "handover": [OLDEST_FORMAT, FORMAT], "zmq": zmq, "why_no_zmq": why}
    return json.dumps(said)


def execute(python: str, arguments: Sequence[str], keep: Iterable[int]) -> NoReturn:
    """Becomes that program, with these descriptors and the usual three open.

    Raises OSError, and all is as it was.
    """
    descriptors = list(keep)
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        os.execv(python, [python, *arguments])
    finally:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A signal that would end us waits for the end of the block, or for the next program."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_file(path: str) -> None:
    """Others must not be able to change what we are about to become."""
    try:
        if not os.path.isabs(path):
            raise _refused("its path is not absolute")
        found, folder = os.lstat(path), os.stat(os.path.dirname(path))
    except (OSError, ValueError) as absent:
        raise _refused(str(getattr(absent, "strerror", None) or absent)) from None
    if not stat.S_ISREG(found.st_mode):
        raise _refused("it is no regular file")
    for one in (found, folder):
        if one.st_uid != os.getuid():
            raise _refused(f"it belongs to uid {one.st_uid}")
        if one.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused("others can write there")


async def _ask(arguments: list[str], watch: ExitWatch) -> tuple[int, bytes]:
    ended = asyncio.get_running_loop().create_future()
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - it does not wait for it
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as fault:
            raise _refused(f"{arguments[0]}: {fault}") from None
        watch.watch(child, partial(_settle, ended))
        try:
            await asyncio.wait([ended], timeout=CHECK_SECONDS)
            if not ended.done():
                raise _refused(f"it has not answered in {CHECK_SECONDS:g} s")
        finally:
            if not ended.done():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
        size = os.fstat(said.fileno()).st_size
        return child.returncode, os.pread(said.fileno(), SAID_BYTES, max(0, size - SAID_BYTES))


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")


def _refused(why: str) -> ServerStartFailed:
    return ServerStartFailed(f"What was to take over cannot: {why}", step="handover")
