"""The folder of shims: made whole or not at all, and found on a PATH.

It lies in the home, since batch scripts may name what is in it, and stays when its bridge is
closed.  Its name is a digest of what it holds: another version, interpreter or list of
commands has a folder of its own, and processes that make the same one at once agree.  Knows
files; neither bridges nor this process's environment.

    make_folder(parent, commands, python) -> Path     `parent`/<digest>, to be put first on PATH
    fill_folder(folder, commands, python, agent=..., agent_socket=...)   a place of the user's
    without_shims(path) -> str                        a PATH less all such folders
    shims_in(folder) -> list[str]                     the commands there; none if it is no such
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from .. import __version__
from ..errors import InvalidSettings, ShimsUnavailable
from .stub import MARKER, stub_text

__all__ = ["MARKER", "fill_folder", "make_folder", "shims_in", "without_shims"]

PROGRAM = "stand_in.py"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

# bash hands on variables that are no names of its own, such as the function `module` of many
# sites, which dash would drop from every job; -p keeps it from reading BASH_ENV first.
_SHELLS = (("/bin/bash", "/bin/bash -p"), ("/usr/bin/bash", "/usr/bin/bash -p"))


def make_folder(parent: Path, commands: Iterable[str], python: str) -> Path:
    """The folder for these `commands` in `parent`, made or mended if need be.

    `python` is the absolute path of the interpreter that shims are run with.  Raises
    ShimsUnavailable where it cannot be made or is somebody else's, InvalidSettings where a
    command has no name for a file.
    """
    names = _checked(commands, python)
    with _explained(parent):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(os.path.abspath(parent)) / _digest(names, python)
        contents = _contents(folder, names, python)
        if not _is_there(folder):
            _make(folder, contents)
        _is_there(folder)
        _mend(folder, contents)
        _examine(folder, names)
    return folder


def fill_folder(
    folder: Path,
    commands: Iterable[str],
    python: str,
    *,
    agent: Sequence[str] = (),
    agent_socket: str = "",
) -> None:
    """Makes `folder` one of shims of exactly these `commands`.

    With `agent`, an argv, a shim without session and real command runs that, which returns 0
    once somebody listens at `agent_socket`.  Nothing is changed in a folder that holds
    anything else.  Raises as `make_folder` does.
    """
    names = _checked(commands, python)
    with _explained(folder):
        folder = Path(os.path.abspath(folder))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _is_there(folder)
        present = set(os.listdir(folder))
        if present and MARKER not in present:
            raise ShimsUnavailable(f"{folder} holds what is no shim", step="shims")
        contents = _contents(folder, names, python, agent, agent_socket)
        _mend(folder, contents)
        for name in set(shims_in(folder)) - set(names):
            (folder / name).unlink()
        _examine(folder, names)


def shims_in(folder: Path) -> list[str]:
    """The commands that `folder` has shims of; none where it is no folder of shims."""
    if not (folder / MARKER).exists():
        return []
    names = (name for name in os.listdir(folder) if _NAME.fullmatch(name) and name != PROGRAM)
    return sorted(name for name in names if (folder / name).is_file())


def without_shims(path: str) -> str:
    """`path`, as in the variable PATH, less every folder of shims."""
    kept = (one for one in path.split(os.pathsep) if not os.path.exists(os.path.join(one, MARKER)))
    return os.pathsep.join(kept)


def _checked(commands: Iterable[str], python: str) -> list[str]:
    names = sorted(set(commands))
    wrong = [name for name in names if not _NAME.fullmatch(name) or name == PROGRAM]
    if wrong:
        raise InvalidSettings(f"There is no shim of that name: {wrong[0]!r}", step="shims")
    if not os.path.isabs(python) or "\0" in python:
        raise InvalidSettings(f"No absolute path of an interpreter: {python!r}", step="shims")
    return names


def _program() -> bytes:
    return (files(__package__) / PROGRAM).read_bytes()


def _contents(
    folder: Path,
    names: Iterable[str],
    python: str,
    agent: Sequence[str] = (),
    agent_socket: str = "",
) -> dict[str, bytes]:
    """What is in each file; the marker last, for what bears it is whole."""
    shell = next((line for file, line in _SHELLS if os.access(file, os.X_OK)), "/bin/sh")
    stubs = {
        name: os.fsencode(
            stub_text(
                name,
                folder=str(folder),
                python=python,
                shell=shell,
                agent=agent,
                agent_socket=agent_socket,
            )
        )
        for name in names
    }
    marker = f"shims of smartsim-bridge {__version__}\n".encode()
    return {PROGRAM: _program(), **stubs, MARKER: marker}


def _digest(names: Iterable[str], python: str) -> str:
    contents = _contents(Path("/"), names, python)
    found = hashlib.sha256()
    for name, content in contents.items():
        found.update(b"%s %d\0%s" % (name.encode(), len(content), content))
    return found.hexdigest()[:16]


def _is_there(folder: Path) -> bool:
    """Raises ShimsUnavailable where somebody else can put anything into what is there."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return False
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid != os.geteuid() or not is_private:
        raise ShimsUnavailable(
            f"{folder} is not a directory that belongs to you alone", step="shims"
        )
    return True


def _make(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Under another name first; of several processes one wins, and all have the same."""
    stage = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for name, content in contents.items():
            _write(stage / name, content, _mode(name))
        os.rename(stage, folder)
    except OSError as fault:
        if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another was first
            raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _mend(folder: Path, contents: Mapping[str, bytes]) -> None:
    """A file that something removed, or left half-written, is put in place as a whole."""
    for name, content in contents.items():
        file = folder / name
        if _is_as_it_should_be(file, content, _mode(name)):
            continue
        fresh = folder / f".{name}.{os.getpid()}"
        try:
            _write(fresh, content, _mode(name))
            os.replace(fresh, file)
        finally:
            fresh.unlink(missing_ok=True)


def _examine(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not os.access(folder / name, os.X_OK):
            raise ShimsUnavailable(
                f"Programs in {folder} cannot be run",
                step="shims",
                advice="The file system may be mounted noexec: give another state directory.",
            )


def _mode(name: str) -> int:
    return 0o600 if name in (PROGRAM, MARKER) else 0o700


def _write(file: Path, content: bytes, mode: int) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
        os.fchmod(opened.fileno(), mode)  # whatever the umask is
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())  # a full disk may say so only now


def _is_as_it_should_be(file: Path, content: bytes, mode: int) -> bool:
    try:
        found = os.lstat(file)
        return (
            stat.S_ISREG(found.st_mode)
            and not mode & ~found.st_mode
            and (file.read_bytes() == content)
        )
    except OSError:
        return False


@contextlib.contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise ShimsUnavailable(
            f"Cannot make the shims in {place}: {fault.strerror or fault}", step="shims"
        ) from fault
