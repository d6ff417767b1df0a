"""A Python for the head user, with pyzmq and without.

The interpreter that runs the tests may lie where the head user cannot enter (a pyenv in
root's home), and a distribution's own has no pyzmq.  So a Python that the user can really
run is looked for, and pyzmq for its version is put into a directory that all may read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .users import User

__all__ = ["HeadPython", "find_python", "install_zmq", "run_as"]

RUN_SECONDS = 60.0
INSTALL_SECONDS = 180.0
OLDEST = (3, 9)

_QUESTION = """
import sys
try:
    import zmq
    has_zmq = "yes" if zmq.has("curve") else "no"
except Exception:
    has_zmq = "no"
print("%d.%d" % sys.version_info[:2], has_zmq)
"""


@dataclass(frozen=True)
class HeadPython:
    """An interpreter that the head user can run; `has_zmq` without help of ours."""

    path: str
    version: tuple[int, int]
    has_zmq: bool


def run_as(user: User, command: list[str], **keywords: object) -> subprocess.CompletedProcess[str]:
    """Runs a command as `user`, who need not be us, and gives its output as text."""
    as_user = {} if user.is_us else {"user": user.uid, "group": user.gid, "extra_groups": []}
    settings = {
        "cwd": "/",
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "text": True,
        "errors": "replace",
        "timeout": RUN_SECONDS,
        **as_user,
        **keywords,
    }
    return subprocess.run(command, check=False, **settings)  # type: ignore[call-overload,no-any-return]


def find_python(user: User, version: tuple[int, int] | None = None) -> HeadPython | None:
    """One that the user can run, 3.9 or newer, or of just this version; ours if possible."""
    for path in _candidates(version):
        found = _ask(user, path)
        if found is None or found.version < OLDEST:
            continue
        if version is None or found.version == version:
            return found
    return None


def install_zmq(python: HeadPython, directory: Path) -> None:
    """Puts pyzmq for that Python into `directory`, for all to read."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(directory), "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", ".".join(map(str, python.version)), "pyzmq"),
        ],
        check=True,
        timeout=INSTALL_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    for parent, _, names in os.walk(directory):
        os.chmod(parent, 0o755)
        for name in names:
            path = Path(parent, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _candidates(version: tuple[int, int] | None) -> Iterator[str]:
    minors = [version[1]] if version else range(9, 20)
    if version is None or version == sys.version_info[:2]:
        yield sys.executable
        yield os.path.realpath(sys.executable)
    names = [f"python3.{minor}" for minor in minors]
    for name in ["python3", *names]:
        for place in ("/usr/bin", "/usr/local/bin", "/opt/python/bin"):
            yield f"{place}/{name}"
        found = shutil.which(name)
        if found:
            yield found
    # A pyenv keeps its interpreters beside each other, behind shims that are scripts.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for minor in minors:
        with contextlib.suppress(OSError):  # it may be closed to us
            yield from map(str, sorted(root.glob(f"versions/3.{minor}.*/bin/python3.{minor}")))


def _ask(user: User, path: str) -> HeadPython | None:
    try:
        done = run_as(user, [path, "-c", _QUESTION])
    except (OSError, subprocess.SubprocessError):
        return None
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 2:
        return None
    major, minor = words[0].split(".")
    return HeadPython(path, (int(major), int(minor)), words[1] == "yes")
