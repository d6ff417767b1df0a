"""Who logs in: a user of this machine that is not us, where we are root; else ourselves.

The users are made once and stay.  Each has a random password that only root can read back,
so that a machine that ran the tests has no account with a known password.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["User", "is_root", "us", "throwaway_user", "user_of_nobody_else"]


@dataclass(frozen=True)
class User:
    """A login of this machine; `password` is None where we cannot know it."""

    name: str
    uid: int
    gid: int
    password: str | None = field(default=None, repr=False)

    @property
    def is_us(self) -> bool:
        return self.uid == os.getuid()

    def known_password(self) -> str:
        """The password; skips a test of whom we cannot know it."""
        if self.password is None:
            pytest.skip("the password of whoever runs the tests is not known")
        return self.password

    def own(self, path: Path) -> None:
        """Gives a file or directory to the user."""
        if not self.is_us:
            os.chown(path, self.uid, self.gid)


def is_root() -> bool:
    return hasattr(os, "getuid") and os.getuid() == 0


def us() -> User:
    entry = pwd.getpwuid(os.getuid())
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def throwaway_user(name: str) -> User:
    """The user `name`, made if it is not there.  Needs root."""
    with _only_one():
        password = _password_of(name)
        if not _exists(name):
            _run(["useradd", "--create-home", "--shell", "/bin/bash", name])
        _run(["chpasswd"], f"{name}:{password}\n")
    entry = pwd.getpwnam(name)
    return User(name, entry.pw_uid, entry.pw_gid, password)


@contextlib.contextmanager
def user_of_nobody_else(name: str) -> Iterator[User]:
    """The first of `name`0, `name`1 ... whom no other test of this machine has just now.

    Whatever process it is in, of this run or of another: what is hers outside her home, or
    her password, may be changed.
    """
    import fcntl

    for number in itertools.count():
        with (_private_directory() / f"{name}{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield throwaway_user(f"{name}{number}")
            return


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _password_of(name: str) -> str:
    path = _private_directory() / f"{name}.password"
    if not path.exists():
        path.touch(0o600)
        path.write_text(secrets.token_urlsafe(18), encoding="ascii")
    return path.read_text(encoding="ascii")


def _private_directory() -> Path:
    path = Path(tempfile.gettempdir()) / f"ssb-tests-{getpass.getuser()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    assert status.st_uid == os.getuid(), f"{path} belongs to somebody else"
    assert status.st_mode & 0o077 == 0, f"{path} is open to others"
    return path


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Several test runs of one machine make the same users."""
    import fcntl

    with (_private_directory() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], text: str = "") -> None:
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert program is not None, f"{command[0]} is missing"
    subprocess.run([program, *command[1:]], input=text, text=True, check=True, capture_output=True)
