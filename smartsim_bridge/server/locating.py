"""Says what this host has of programs and files that a client asks for, without running anything.

For a thread: a directory of a PATH may lie on a slow file system.  Knows no session.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping

from ..protocol.messages import Locate, Located
from .accounting import why_no_accounting
from .search_path import path_without_shims

__all__ = ["locate"]


def locate(
    asked: Locate, environment: Mapping[str, str], allowed: Iterable[str] | None = None
) -> Located:
    """What there is now for commands with that environment; `allowed` are those that may be run."""
    path = path_without_shims(environment.get("PATH", os.defpath))
    absolute = os.pathsep.join(filter(os.path.isabs, path.split(os.pathsep)))
    names = (name for name in asked.programs if allowed is None or name in allowed)
    looked = {name: _program(name, absolute) for name in names}
    found = {name: where for name, where in looked.items() if where}
    return Located(
        asked.request,
        found,
        path,
        bool(asked.file) and _holds(asked.file, asked.payload),
        why_no_accounting(found["sacct"], environment) if "sacct" in found else "",
    )


def _program(name: str, path: str) -> str | None:
    is_bare = bool(name) and "/" not in name and "\0" not in name
    return shutil.which(name, path=path) if is_bare and path else None


def _holds(file: str, content: bytes) -> bool:
    """Whether that is what the file holds; a pipe or a device is not read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        about = os.fstat(descriptor)
        is_alike = stat.S_ISREG(about.st_mode) and about.st_size == len(content)
        return is_alike and os.read(descriptor, len(content) + 1) == content
    except OSError:
        return False
    finally:
        os.close(descriptor)
