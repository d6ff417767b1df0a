"""The file under the journal: lines of JSON that are appended, and now and then written anew.

One write per line, so that a server that is killed leaves whole lines and at most one torn
at the end: what that one was to announce has not been done.  Anything else that is odd makes
all of it worthless, for a line may be missing.  The home it lies on may be full, read-only
or shared, so nothing that is read is trusted to be what was written.  Knows what a line
looks like, not what follows from it; used by the journal alone.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

__all__ = ["SHAPES", "Event", "JournalFile"]

Event = list[Any]  # its kind, and what SHAPES says of that; one line each

# What follows the kind.  Another shape or kind is another format: see _HEADER.
SHAPES: dict[str, tuple[str, ...]] = {
    "opened": ("pid", "when"),  # by a server, to go on with it
    "session": ("session", "number"),  # the highest so far
    "begin": ("command", "session", "number", "argv", "keep", "asked"),
    "started": ("command", "pid", "pid_start"),
    "failed": ("command", "errno", "text", "filename", "ended"),
    "ended": ("command", "code", "signal", "timed_out", "ended", "stdout", "stderr"),
    "forget": ("commands",),
    "record": (
        "command", "session", "number", "argv", "keep", "asked", "pid", "pid_start", "state",
        "ended", "code", "signal", "timed_out", "errno", "text", "filename", "stdout", "stderr",
        "is_forgotten",
    ),  # all of a command at once, when the file is written anew
}  # fmt: skip

MAX_READ = 64 * 1024 * 1024  # ours are far smaller: a bigger one is somebody's mistake

_OUTPUTS = ("stdout", "stderr")  # bytes, and in the line base64
_HEADER = '{"journal":1}'  # the number of this format: another one is not read
_NEW, _BROKEN = ".new", ".broken"  # beside the file; fixed names, so that no rubbish gathers
# A link in its place is not followed, and a FIFO there does not hold us up.
_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class JournalFile:
    """One file, and whether the next server may believe it.

    The number of its descriptor stays the same once it has one, whatever becomes of the
    file: a thread may be about to sync it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._floor = 0  # what was left of it when it was last written anew
        self.size = 0
        self.is_on = False  # what is appended now completes what is there

    @property
    def descriptor(self) -> int | None:
        """For an fsync; None while there is nothing that is worth one."""
        return self._descriptor if self.is_on else None

    def read(self) -> list[Event]:
        """What is there, to be gone on with; none where there is no file.

        Raises OSError or ValueError where it cannot be opened for more, or be trusted.
        Without `is_on` afterwards it has to be written anew before anything is appended.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            return []
        try:
            content = _content(descriptor)
            events, is_clean = _parsed(content)
        except BaseException:
            os.close(descriptor)
            raise
        self._keep(descriptor, len(content))
        self.is_on = is_clean
        return events

    def append(self, event: Event) -> None:
        """Adds one line; raises OSError, after which the file must not be believed."""
        assert self._descriptor is not None
        line = _line(event)
        if os.write(self._descriptor, line) != len(line):
            # Part of it is there, so the place has run out: the next write would say so.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(line)

    def replace(self, events: Iterable[Event]) -> None:
        """Writes all of it anew, in one step; raises OSError and leaves the old one there."""
        new = self._path + _NEW
        _remove(new)  # of a server that was killed just here
        content = b"".join((_HEADER.encode() + b"\n", *map(_line, events)))
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask says
            _write_all(descriptor, content)
            os.fsync(descriptor)
            os.replace(new, self._path)
        except BaseException:
            os.close(descriptor)
            _remove(new)
            raise
        self._keep(descriptor, len(content))
        self._floor = len(content)
        self.is_on = True
        _sync_directory(os.path.dirname(self._path))

    def discard(self) -> None:
        """Sees to it that no later server believes what is there, as far as one can."""
        self.is_on = False
        if self._descriptor is not None:
            # Empty is as good as gone, where the directory does not let go of it; and what
            # is open still takes up the space that ran out.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        _remove(self._path)

    def set_aside(self) -> None:
        """Keeps what cannot be trusted out of the way, for people to look at."""
        self.is_on = False
        try:
            os.replace(self._path, self._path + _BROKEN)
        except OSError:
            _remove(self._path)

    def has_grown_past(self, limit: int) -> bool:
        """Whether it is larger than that, and half of it at least could be gone."""
        return self.size > limit and self.size > 2 * self._floor

    def is_in_place(self) -> bool:
        """Whether the path still leads to what we write to: somebody may have cleared up."""
        assert self._descriptor is not None
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def close(self) -> None:
        """Lets go of it; it stays as it is."""
        self.is_on = False
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _keep(self, descriptor: int, size: int) -> None:
        if self._descriptor is None:
            self._descriptor = descriptor
        else:
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
        self.size = size


def _content(descriptor: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if found.st_uid != os.getuid():
        raise ValueError(f"it belongs to uid {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("others can write to it")
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(MAX_READ + 1)
    if len(content) > MAX_READ:
        raise ValueError(f"it has more than {MAX_READ} bytes")
    return content


def _parsed(content: bytes) -> tuple[list[Event], bool]:
    """All events, and whether more can be appended as it is; raises ValueError."""
    *lines, torn = content.decode("ascii").split("\n")
    if not lines:
        # Emptied by `discard`, or not even begun.
        if not _HEADER.startswith(torn):
            raise ValueError("it is no journal")
        return [], False
    if lines[0] != _HEADER:
        raise ValueError("it is no journal of this format")
    if torn and not (torn.startswith("[") and torn.isprintable()):
        # A host that crashed may leave zeros where whole lines had been written.
        raise ValueError("its end is no line of a journal")
    return [_decoded(line) for line in lines[1:]], not torn


def _decoded(line: str) -> Event:
    try:
        event = _DECODER.decode(line)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not _is_event(event):
        raise ValueError(f"a line of it is no event: {line[:80]}")
    return [event[0], *map(_value, SHAPES[event[0]], event[1:])]


def _value(name: str, value: Any) -> Any:
    if value is None or name not in _OUTPUTS:
        return value
    output = base64.b64decode(value)
    if _to_base64(output) != value:
        raise ValueError("output in a line of it is no base64")
    return output


def _to_base64(output: bytes) -> str:
    return base64.b64encode(output).decode("ascii")


def _is_event(value: Any) -> bool:
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        return False
    kind, *values = value
    names = SHAPES.get(kind, ())
    return 0 < len(names) == len(values) and all(
        _CHECKS[name](one) for name, one in zip(names, values)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int  # which a flag is not


def _is_natural(value: Any) -> bool:
    return type(value) is int and value >= 0  # a negative pid is a group, or everybody


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("command", "session", "state", "text", "filename"), _is_text),
    **dict.fromkeys(("number", "errno"), _is_whole),
    **dict.fromkeys(("pid", "pid_start"), _is_natural),
    **dict.fromkeys(("keep", "timed_out", "is_forgotten"), _is_flag),
    **dict.fromkeys(("asked", "ended", "when"), _is_time),
    **dict.fromkeys(("argv", "commands"), _are_texts),
    **dict.fromkeys(("code", "signal"), _or_none(_is_whole)),
    **dict.fromkeys(_OUTPUTS, _or_none(_is_text)),
}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _line(event: Event) -> bytes:
    # All ASCII, so lone surrogates (undecodable bytes of file names) stay as they are, and
    # no text can hold the end of a line.
    return _encode(event).encode("ascii") + b"\n"


# Made once: that costs more than a line.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_to_base64).encode


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _sync_directory(path: str) -> None:
    """So that the new name lasts, where the file system knows of such a thing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
