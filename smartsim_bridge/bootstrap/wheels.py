"""Fetches the wheel of pyzmq that a head's Python needs, here, and keeps it for the next head.

pip does it, in a process of its own: so the user's own index, mirror, proxy and find-links
apply, and no host is named by us.  What pip has checked against the index is from then on
known by its SHA-256, which is looked at each time the wheel is used.  Knows no head.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..deadline import Deadline
from ..errors import ProvisionFailed
from .noise import clean
from .wheel_tags import Tags

__all__ = ["REQUIREMENT", "Wheel", "fetch"]

OLDEST = 26  # whose wheels are the first that all bring libzmq 4.3.5
REQUIREMENT = f"pyzmq>={OLDEST}"
# A wheel has about one megabyte, and is to travel through a shell.
MAX_WHEEL = 8 << 20
SHARE = 0.5  # of the time that is left, for pip
_NAME = re.compile(
    r"pyzmq-(?P<major>[0-9]+)\.[A-Za-z0-9.]+"
    r"-[a-z0-9_.]+-(?P<abi>[a-z0-9_.]+)-[a-z0-9_.]+\.whl",
    re.ASCII,
)


@dataclass(frozen=True)
class Wheel:
    """One wheel, all of it."""

    name: str
    content: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def folder(self) -> str:
        """What it is unpacked to: versions, and wheels of several Pythons, lie side by side."""
        return f"{self.name[: -len('.whl')]}-{self.digest[:12]}"


def fetch(tags: Tags, cache: str, *, deadline: Deadline) -> Wheel:
    """The newest wheel for `tags` that the user's pip finds, or the one that it found before.

    `cache` is a directory for all of them.  Raises ProvisionFailed with what pip said.
    """
    place = Path(cache, "wheels", tags.name)
    kept = _kept(place, tags)
    if kept is None:
        kept = _download(tags, deadline)
        with suppress(OSError):  # a full disk here is no reason to do without
            _keep(kept, place)
    return kept


# --- what was fetched before --------------------------------------------------------------


def _kept(place: Path, tags: Tags) -> Wheel | None:
    """One that is whole; anything else is as good as none."""
    if not _is_private(place):
        return None  # whoever can write a wheel there can write its digest
    for path in sorted(place.glob("*.whl")):
        try:
            wheel = _read(path, tags)
            digest = path.with_suffix(".sha256")
            expected = digest.read_text("ascii").strip() if digest.is_file() else ""
        except (OSError, ValueError):
            continue
        if wheel.digest == expected:
            return wheel
    return None


def _is_private(place: Path) -> bool:
    """Whether only this user can put anything there: a cache may be shared by a group."""
    try:
        found = place.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True  # Windows: in the user's own profile
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _keep(wheel: Wheel, place: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / wheel.name
    # The digest last: a wheel counts only beside its digest.
    digest = wheel.digest.encode()
    for name, content in ((path, wheel.content), (path.with_suffix(".sha256"), digest)):
        with tempfile.NamedTemporaryFile(dir=place, prefix=".draft-", delete=False) as draft:
            try:
                draft.write(content)
                draft.close()
                os.replace(draft.name, name)
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft.name)
                raise


def _read(path: Path, tags: Tags) -> Wheel:
    """Raises ValueError where it cannot be what was asked for."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path.name} is no name of a wheel of pyzmq")
    if int(found["major"]) < OLDEST:
        raise ValueError(f"{path.name} is older than {REQUIREMENT}")
    if found["abi"] != tags.abi and not (tags.has_stable_abi and found["abi"] == "abi3"):
        # A pip that is older than free-threaded Pythons takes wheels for them that do not fit.
        raise ValueError(f"{path.name} is not built for {tags.abi}; a newer pip may find one")
    if not path.is_file():  # to open a pipe is to wait for its writer
        raise ValueError(f"{path.name} is no file")
    if path.stat().st_size > MAX_WHEEL:
        raise ValueError(f"{path.name} is larger than {MAX_WHEEL >> 20} MiB")
    return Wheel(path.name, path.read_bytes())


# --- pip ----------------------------------------------------------------------------------


def _download(tags: Tags, deadline: Deadline) -> Wheel:
    arguments = [
        *("download", "--only-binary=:all:", "--no-deps", "--no-input"),
        *("--disable-pip-version-check", "--quiet"),
        *(*tags.options, REQUIREMENT),
    ]
    try:
        with tempfile.TemporaryDirectory(prefix="smartsim-bridge-wheel-") as directory:
            done = _run_pip([*_pip(), *arguments], directory, deadline)
            if done.returncode != 0:
                raise _failed(f"pip failed with status {done.returncode}", arguments, done.stdout)
            return _only_one(Path(directory), tags, arguments, done.stdout)
    except subprocess.TimeoutExpired as late:
        raise _failed("pip took too long", arguments, late.output) from None
    except OSError as fault:
        raise _failed(f"pip could not do its work: {fault}", arguments) from None


def _run_pip(
    command: list[str], directory: str, deadline: Deadline
) -> subprocess.CompletedProcess[bytes]:
    # An index that never answers must leave time for a server that does without.
    limit = deadline.left * SHARE
    return subprocess.run(
        command,
        # `python -m` looks for pip where it is started: there must be no other.
        cwd=directory,
        # Nothing is installed, so no virtual environment is needed for it.
        env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=None if limit == float("inf") else limit,
        check=False,
    )


def _only_one(directory: Path, tags: Tags, arguments: list[str], said: bytes) -> Wheel:
    paths = list(directory.iterdir())
    if len(paths) != 1:
        raise _failed(f"pip left {len(paths)} files instead of one wheel", arguments, said)
    try:
        return _read(paths[0], tags)
    except (OSError, ValueError) as fault:
        raise _failed(f"pip brought what cannot be used: {fault}", arguments, said) from None


def _pip() -> list[str]:
    """How to start it; a virtual environment may have none of its own."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        found = shutil.which(name)
        if found:
            return [os.path.abspath(found)]
    raise ProvisionFailed(
        f"{sys.executable} has no pip to fetch pyzmq with, and there is none on PATH",
        step="provision",
        advice=f"Run `{shlex.quote(sys.executable)} -m ensurepip`, or install pip beside it.",
    )


def _failed(what: str, arguments: list[str], said: bytes | None = None) -> ProvisionFailed:
    lines = clean((said or b"").decode("utf-8", "replace")).splitlines()
    # The first tells of a proxy or a lost network, the last what came of it.
    words = " ... ".join(dict.fromkeys(line.strip() for line in (*lines[:1], *lines[-1:])))
    by_hand = shlex.join(["pip", *(word for word in arguments if word != "--quiet"), "-d", "DIR"])
    return ProvisionFailed(
        f"No wheel of pyzmq for the head: {what}" + (f": {words}" if words else ""),
        step="provision",
        advice="Where another machine has internet, run there what follows, bring DIR here, "
        f"and set PIP_FIND_LINKS to its path: {by_hand}",
    )
