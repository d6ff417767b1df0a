"""Into the background: a process that outlives the SSH session that started it.

The parent stays until the child has said through a pipe that it is ready, or why not,
and prints that.  Must be called before any thread or event loop exists.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable

__all__ = ["detached"]

_LIMIT = 64 * 1024  # a ready line has one or two KiB


def detached(serve: Callable[[Callable[[str], None]], int]) -> int:
    """Runs `serve(say)` in a new session; returns in the parent with the exit status.

    What the child says first is printed: on stdout where it is a ready line, on stderr,
    with exit status 1, where the child ends without one.
    """
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os.wait()
        return _repeat(reader)
    os.close(reader)
    os.setsid()
    if os.fork() != 0:
        # Not a session leader any more: the grandchild can never get a terminal.
        os._exit(0)
    _leave_terminal(keep=writer)
    status = serve(lambda line: _say(writer, line))
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


def _say(writer: int, line: str) -> None:
    os.write(writer, line.encode())
    os.close(writer)


def _leave_terminal(keep: int) -> None:
    """Lets go of everything that ties us to the session, and of every descriptor but `keep`.

    A descriptor that we inherited would hold somebody's pipe, or the SSH session, open.
    """
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, keep)
    os.closerange(keep + 1, _highest_descriptor())


def _highest_descriptor() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65536 if soft == resource.RLIM_INFINITY else soft
