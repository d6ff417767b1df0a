"""A pyzmq of our own beside the far half, for a Python that has none: in, and into use.

A wheel is a zip file; unpacked into a directory that is put on `sys.path` it works.  It
came over SSH with the digest that the client knows, and is read as if it had not: nothing
in it may leave the directory, or be more than a plain file of a plain size.  Before the
directory gets its name it is tried, because a file system may forbid to execute what lies
on it.  Must not know how it came here, nor what the server does with it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..errors import UnsafeDirectory
from .places import private_directory

__all__ = ["is_safe_site", "try_site", "unpack", "use_site"]

# pyzmq's wheels have some 120 files and 3 MB, 6 MB for the Macs.
MAX_FILES, MAX_BYTES = 2000, 64 << 20
TRIAL_SECONDS = 30.0  # for a Python to come up and import it; a cold shared home may be slow
STALE_SECONDS = 3600.0  # after which a draft belongs to nobody who still writes it
# What begins with a dot is no finished one, for us and for probe.sh.
DRAFT = ".draft-"


def use_site(site: str) -> None:
    """From now on zmq is imported from there; to be called before anybody imports it."""
    sys.path.insert(0, site)


def is_safe_site(site: str) -> bool:
    """Whether it is a directory of ours where nobody else can write."""
    if not os.path.isabs(site):
        return False
    try:
        for path in (site, os.path.dirname(site)):
            found = os.lstat(path)
            if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return False
    except (OSError, ValueError):
        return False
    return os.path.isdir(site)


def try_site(site: str) -> None:
    """Has another process of this program import it; raises OSError, with the reason."""
    if not is_safe_site(site):
        raise OSError(f"{site} is no directory of ours where nobody else can write")
    command = [sys.executable, sys.argv[0], "check", "--site", site]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"to import it takes more than {TRIAL_SECONDS:g} s") from None
    lines = done.stdout.decode("utf-8", "replace").splitlines() or [""]
    try:
        found = json.loads(lines[-1])
        zmq, why = found["zmq"], found["why_no_zmq"]
    except (ValueError, TypeError, LookupError):
        raise OSError(f"the trial ended with status {done.returncode}: {lines[-1]}") from None
    if not zmq:
        raise OSError(f"it cannot be imported there: {why}")


def unpack(name: str, size: int, digest: str, directories: Sequence[str], encoded: bytes) -> str:
    """The path of `name`, in the first directory where it works.

    Raises ValueError where the wheel is broken, or nothing that we would unpack, and OSError
    with the fault of every directory.
    """
    if not name.startswith("pyzmq-") or os.path.basename(name) != name:
        raise ValueError(f"{name!r} is no name for it")
    content = base64.b64decode(encoded)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{len(content)} bytes arrived, and they are not what was sent")
    faults = []
    with _opened(content) as archive:
        members = list(_members(archive))
        for directory in directories:
            try:
                private_directory(directory)
                folder = private_directory(os.path.join(directory, "far"))
                return _install(archive, members, folder, name)
            except UnsafeDirectory as refused:
                faults.append(f"{directory}: {refused.what}")
            except OSError as error:
                faults.append(f"{directory}: {error.strerror or error}")
    raise OSError("; ".join(faults))


def _opened(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as broken:
        raise ValueError(f"this is no wheel: {broken}") from None


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Each file, and its path below the directory.  Raises ValueError for what we refuse."""
    total, seen = 0, set[str]()
    for info in archive.infolist():
        parts = info.filename.rstrip("/").split("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        _check_parts(parts, info.filename)
        if info.is_dir() and kind in (0, stat.S_IFDIR):
            continue
        if info.is_dir() or kind not in (0, stat.S_IFREG) or len(parts) < 2:
            raise ValueError(f"{info.filename!r} in the wheel is no regular file of a package")
        total += info.file_size
        if len(seen) >= MAX_FILES or total > MAX_BYTES:
            raise ValueError("the wheel unpacks to more than pyzmq has ever been")
        path = os.path.join(*parts)
        if path in seen:
            raise ValueError(f"{info.filename!r} is in the wheel twice")
        seen.add(path)
        yield info, path
    if os.path.join("zmq", "__init__.py") not in seen:
        raise ValueError("there is no zmq in the wheel")


def _check_parts(parts: list[str], name: str) -> None:
    top = parts[0]
    is_ours = top in ("zmq", "pyzmq.libs") or (
        top.startswith("pyzmq-") and top.endswith(".dist-info")
    )
    is_plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not is_ours or not is_plain or "\\" in name:
        raise ValueError(f"{name!r} in the wheel does not belong to pyzmq")


def _install(
    archive: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, str]], folder: str, name: str
) -> str:
    """All of it under its name, and it works there; or nothing, and OSError."""
    goal = os.path.join(folder, name)
    _tidy(folder)
    draft = os.path.join(folder, f"{DRAFT}{os.urandom(6).hex()}")  # hosts share it, so no pid
    os.mkdir(draft, 0o700)
    try:
        for info, path in members:
            _write(archive, info, os.path.join(draft, path))
        try_site(draft)
        return _take_place(draft, goal)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _take_place(draft: str, goal: str) -> str:
    try:
        os.rename(draft, goal)
    except OSError:
        if not os.path.isdir(goal):
            raise
        # Another client was faster, or a cleaner of /tmp has left half of an older one.
        try:
            try_site(goal)
        except OSError:
            os.rename(goal, f"{draft}-old")
            shutil.rmtree(f"{draft}-old", ignore_errors=True)
            os.rename(draft, goal)
    return goal


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> None:
    """One file, new.  Not synced: one that a crash has emptied does not pass the next trial."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    try:
        content = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as broken:
        raise ValueError(f"the wheel is broken: {broken}") from None
    mode = 0o700 if info.external_attr >> 16 & 0o111 else 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(content)


def _tidy(folder: str) -> None:
    """Removes drafts whose writers were killed."""
    for entry in os.scandir(folder):
        with suppress(OSError):
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if entry.name.startswith(DRAFT) and age > STALE_SECONDS:
                shutil.rmtree(entry.path, ignore_errors=True)
