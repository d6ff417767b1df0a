"""The folder of shims, made whole or not at all.

It lies in the home, since batch scripts may name what is in it, and stays when its bridge is
closed.  Its name is a digest of what it holds: another version, interpreter or list of
commands has a folder of its own, and processes that make the same one at once agree.  Knows
files; neither bridges nor this process's environment.

    make_folder(parent, commands, python) -> Path     `parent`/<digest>, to be put first on PATH
    fill_folder(folder, commands, python, agent=..., agent_socket=...)   a place of the user's
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
from ..protocol.environment import SHIM_MARKER
from .stub import SIGN, stub_text

__all__ = ["fill_folder", "make_folder", "shims_in"]

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
        parent = Path(os.path.abspath(parent))
        make_private(parent)
        _see_that_it_is_ours(parent, os.stat(parent))
        # Of several names of one directory, the other may be unknown where a job runs.
        folder = parent / _digest(_contents(parent, names, python))
        contents = _contents(folder, names, python)
        if not os.path.lexists(folder):
            _make(folder, contents)
        _mend(folder, contents)
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
        make_private(folder)
        present = os.listdir(folder)
        if present and SHIM_MARKER not in present:
            raise ShimsUnavailable(f"{folder} holds what is no shim", step="shims")
        _mend(folder, _contents(folder, names, python, agent, agent_socket))
        for name in set(shims_in(folder)) - set(names):
            (folder / name).unlink()


def make_private(directory: Path) -> None:
    """With what is missing above it; raises OSError.

    `Path.mkdir` leaves the modes of those above to the umask, and who may write to one of
    them can put another directory in the place of ours.
    """
    for one in reversed((directory, *directory.parents)):
        if not one.is_dir():
            one.mkdir(mode=0o700, exist_ok=True)


def shims_in(folder: Path) -> list[str]:
    """The commands that `folder` has shims of; none where it is no folder of shims."""
    if not (folder / SHIM_MARKER).exists():
        return []
    return sorted(name for name in os.listdir(folder) if _is_shim(folder / name))


def _is_shim(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            return SIGN in opened.read(200)
    except OSError:
        return False


def _checked(commands: Iterable[str], python: str) -> list[str]:
    names = sorted(set(commands))
    wrong = [name for name in names if not _NAME.fullmatch(name) or name == PROGRAM]
    if wrong:
        raise InvalidSettings(f"There is no shim of that name: {wrong[0]!r}", step="shims")
    if not os.path.isabs(python) or "\0" in python:
        raise InvalidSettings(f"No absolute path of an interpreter: {python!r}", step="shims")
    return names


def _contents(
    folder: Path,
    names: Iterable[str],
    python: str,
    agent: Sequence[str] = (),
    agent_socket: str = "",
) -> dict[str, bytes]:
    """What is in each file.  The marker comes first: what bears it may be mended."""
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
    program = (files(__package__) / PROGRAM).read_bytes()
    return {SHIM_MARKER: marker, PROGRAM: program, **stubs}


def _digest(contents: Mapping[str, bytes]) -> str:
    found = hashlib.sha256()
    for name, content in contents.items():
        found.update(b"%s %d\0%s" % (name.encode(), len(content), content))
    return found.hexdigest()[:16]


def _see_that_it_is_ours(place: Path, found: os.stat_result) -> None:
    """Raises ShimsUnavailable where somebody else may put anything there."""
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid != os.geteuid() or not is_private:
        what = f"{place} is not a directory that belongs to you alone"
        raise ShimsUnavailable(what, step="shims")


def _make(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Under another name first; of several processes one wins, and all have the same."""
    stage = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        _mend(stage, contents)
        os.rename(stage, folder)
    except OSError as fault:
        if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another was first
            raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _mend(folder: Path, contents: Mapping[str, bytes]) -> None:
    """A file that is missing, half-written or changed is put in place as a whole."""
    _see_that_it_is_ours(folder, os.lstat(folder))
    for name, content in contents.items():
        mode = 0o600 if name in (PROGRAM, SHIM_MARKER) else 0o700
        if not _is_as_it_should_be(folder / name, content, mode):
            _write(folder / name, content, mode)
        if mode & stat.S_IXUSR and not os.access(folder / name, os.X_OK):
            raise ShimsUnavailable(
                f"Programs in {folder} cannot be run",
                step="shims",
                advice="The file system may be mounted noexec: give another state directory.",
            )


def _write(file: Path, content: bytes, mode: int) -> None:
    descriptor, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(descriptor, "wb") as opened:
            os.fchmod(descriptor, mode)
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)  # a full disk may say so only now
        os.replace(fresh, file)
    except BaseException:
        os.unlink(fresh)
        raise


def _is_as_it_should_be(file: Path, content: bytes, mode: int) -> bool:
    try:
        found = os.lstat(file)
        is_file = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == mode
        return is_file and file.read_bytes() == content
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
