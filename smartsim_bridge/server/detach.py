"""Into the background: a process that outlives the SSH session that started it.

The parent stays until the child has said through a pipe that it is ready, or why not,
and prints that.  Must be called before any thread or event loop exists.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, NoReturn

__all__ = ["detached"]

_LIMIT = 64 * 1024  # a ready line has one or two KiB


def detached(serve: Callable[[Callable[[str], None]], int]) -> int:
    """Runs `serve(say)` in a new session; returns in the parent with the exit status.

    What the child says first is printed: on stdout where it is a ready line, on stderr,
    with exit status 1, where the child ends without one.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child != 0:
        os.close(writer)
        os.waitpid(child, 0)
        return _repeat(reader)
    os.close(reader)
    os.setsid()
    if os.fork() != 0:
        # Not a session leader any more: the grandchild can never get a terminal.
        os._exit(0)
    _leave_terminal(keep=writer)
    return _serve_and_exit(serve, os.fdopen(writer, "wb", buffering=0))


def _serve_and_exit(serve: Callable[[Callable[[str], None]], int], pipe: BinaryIO) -> NoReturn:
    status = 1
    try:
        status = serve(lambda line: _say(pipe, line))
    except Exception as fault:  # above us is only the parent, which waits for a word
        logging.getLogger(__name__).exception("the server failed")
        _say(pipe, f"-smartsim-bridge: {type(fault).__name__}: {fault}\n")
    finally:
        os._exit(status)


def _repeat(reader: int) -> int:
    said = b""
    while len(said) < _LIMIT:
        piece = os.read(reader, _LIMIT)
        if not piece:
            break
        said += piece
    is_ready, text = said.startswith(b"+"), said[1:].decode("utf-8", "replace")
    (sys.stdout if is_ready else sys.stderr).write(text or "smartsim-bridge: no word from it\n")
    sys.stdout.flush()
    return 0 if is_ready else 1


def _say(pipe: BinaryIO, line: str) -> None:
    """Only the first word is for the parent, which may be gone by then."""
    if not pipe.closed:
        with suppress(OSError), pipe:
            pipe.write(line.encode())


def _leave_terminal(keep: int) -> None:
    """Lets go of everything that ties us to the session, and of every descriptor but `keep`.

    A descriptor that we inherited would hold somebody's pipe, or the SSH session, open.
    The umask stays: it is the user's own, and the commands inherit it.
    """
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, keep)
    os.closerange(keep + 1, _highest_descriptor())


def _highest_descriptor() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65536 if soft == resource.RLIM_INFINITY else soft
