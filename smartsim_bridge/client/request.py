"""The words of subprocess, checked and put into a request.

What the protocol could not carry must fail here, for the one caller who said it: the
server would take it for a broken peer and cut the link that all callers share.  Pure.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Union

from ..protocol.environment import sent_along
from ..protocol.messages import NULL, PIPE, TO_STDOUT, Start

__all__ = ["Words", "byte_offset", "request", "signal_number", "way"]

# What a program may be given as: a name, or a list of name and arguments.
Words = Union[str, bytes, "os.PathLike[str]", Sequence[Union[str, bytes, "os.PathLike[str]"]]]

HIGHEST_OFFSET = 2**63 - 1
HIGHEST_SIGNAL = 64  # SIGRTMAX of Linux; ours may have fewer than the head


def request(
    args: Words,
    *,
    shell: bool,
    cwd: str | bytes | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    caller: Mapping[str, str],
    keep_env: tuple[str, ...],
    timeout: float | None = None,
    announce: bool = True,
    number: int = 0,
    keep: bool | None = None,
    grace: float | None = None,
    stdin: str = PIPE,
    stdout: str = PIPE,
    stderr: str = PIPE,
) -> Start:
    """A Start with a new id.  Raises TypeError or ValueError for what is not to be said."""
    argv = _argv(args)
    return Start(
        command=os.urandom(16).hex(),
        argv=argv,
        shell=bool(shell),
        cwd=None if cwd is None else os.fsdecode(cwd),
        env={**sent_along(argv[0], caller, keep_env), **_texts(env)},
        keep_env=keep_env,
        timeout=_seconds(timeout),
        announce=announce,
        number=number,
        keep=None if keep is None else bool(keep),
        grace=_seconds(grace, "grace"),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


def signal_number(number: int) -> int:
    """A number that a signal can have.  Raises ValueError for any other."""
    if not 0 <= int(number) <= HIGHEST_SIGNAL:
        raise ValueError(f"{number!r} is no signal")
    return int(number)


def byte_offset(number: int) -> int:
    """Where output may begin.  Raises TypeError or ValueError."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"an offset is a number of bytes, not {number!r}")
    if not 0 <= number <= HIGHEST_OFFSET:
        raise ValueError(f"{number} is no offset of a byte")
    return number


def way(asked: int | None, stream: str) -> str:
    """Where a stream goes.  Raises ValueError for what has no meaning on another host."""
    found = None if asked is None else _WAYS.get(asked)
    if found is None or (found == TO_STDOUT and stream != "stderr"):
        allowed = "subprocess.PIPE or DEVNULL" + (", or STDOUT" if stream == "stderr" else "")
        raise ValueError(f"{stream}={asked!r}: a command on another host takes {allowed}")
    return found


_WAYS = {subprocess.PIPE: PIPE, subprocess.DEVNULL: NULL, subprocess.STDOUT: TO_STDOUT}


def _argv(args: Words) -> tuple[str, ...]:
    words: Sequence[Any] = [args] if isinstance(args, (str, bytes, os.PathLike)) else args
    argv = tuple(os.fsdecode(word) for word in words)
    if not argv:
        raise ValueError("an empty command")
    return argv


def _texts(env: Mapping[str, str] | None) -> dict[str, str]:
    return {os.fsdecode(name): os.fsdecode(value) for name, value in (env or {}).items()}


def _seconds(timeout: object, name: str = "timeout") -> float | None:
    """As subprocess understands a timeout: infinity is none, and what is past is now."""
    if timeout is None:
        return None
    if isinstance(timeout, (str, bytes)):
        raise TypeError(f"{name}={timeout!r} is no number of seconds")
    seconds = float(timeout)  # type: ignore[arg-type]
    if seconds != seconds:
        raise ValueError(f"{name}=nan is no number of seconds")
    return None if seconds == float("inf") else max(0.0, seconds)
