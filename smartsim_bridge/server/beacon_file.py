"""The lock, the beacon and the credentials on disk.

The lock is a flock on node-local storage, held as long as the server lives: the kernel
lets go of it even after SIGKILL, so a dead server never blocks the next one.  Beacon and
credentials are replaced in one step; a reader sees the old or the new file, never half of
one.  Knows files, not links and not commands.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import tempfile

from ..errors import ServerStartFailed
from ..protocol.beacon import (
    MAX_BEACON_BYTES,
    Beacon,
    Credentials,
    beacon_name,
    credentials_name,
    state_and_start,
)
from .places import Places

__all__ = ["BeaconFile", "Lock", "boot_id", "host_name", "process_start"]


ENDED = ("Z", "X")  # states of a process that is only waited for


class Lock:
    """Says which process is the server of this user on this host."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether we have it now; raises ServerStartFailed where locks do not work."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as refused:
            raise ServerStartFailed(
                f"Cannot open {self._path}: {refused.strerror}", step="lock"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            os.close(descriptor)
            if taken.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise ServerStartFailed(
                f"Cannot lock {self._path}: {taken.strerror}", step="lock"
            ) from None
        if not self._is_this(descriptor):
            # Opened before its holder removed it: a lock on a file that nobody else can see.
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def renew(self) -> bool:
        """Whether it is still ours, or is again: somebody may have removed the file."""
        former = self._descriptor
        if former is not None and self._is_this(former):
            return True
        if not self.take():
            return False
        if former is not None:
            os.close(former)
        return True

    def hand_over(self) -> int:
        """The descriptor that holds it: whoever has that one open has the lock."""
        assert self._descriptor is not None
        return self._descriptor

    def take_over(self, descriptor: int) -> None:
        """It was taken by the program that this process was before."""
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def release(self) -> None:
        """Removes the file while it is still ours, and lets go."""
        if self._descriptor is not None:
            if self._is_this(self._descriptor):
                _remove(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_this(self, descriptor: int) -> bool:
        """Whether the open file is still the one that has the name."""
        try:
            named, opened = os.stat(self._path), os.fstat(descriptor)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


class BeaconFile:
    """Writes, refreshes and removes what a server leaves so that it can be found."""

    def __init__(self, places: Places, host: str, boot: str) -> None:
        self._directory, self._host, self._boot = places.servers, host, boot
        self._beacon = os.path.join(places.servers, beacon_name(host, boot))
        self._keys = os.path.join(places.servers, credentials_name(host, boot))

    def write(self, beacon: Beacon, credentials: Credentials | None) -> None:
        """Credentials first: whoever sees the beacon finds them.  Raises ServerStartFailed."""
        try:
            if credentials is None:
                _remove(self._keys)
            else:
                _replace(self._keys, credentials.to_json())
            _replace(self._beacon, beacon.to_json())
        except OSError as refused:
            raise ServerStartFailed(
                f"Cannot write {self._beacon}: {refused.strerror}",
                step="beacon",
                advice="Check quota and permissions, or name another place with --state-dir.",
            ) from None

    def read(self) -> tuple[Beacon, Credentials | None] | None:
        """What lies there, or None where it is missing or broken."""
        try:
            beacon = Beacon.from_json(_content(self._beacon))
        except (OSError, ValueError):
            return None
        try:
            return beacon, Credentials.from_json(_content(self._keys))
        except (OSError, ValueError):
            return beacon, None

    def touch(self, beacon: Beacon, credentials: Credentials | None) -> bool:
        """The heartbeat that other hosts can see; whether both files are still as written."""
        with contextlib.suppress(OSError):
            os.utime(self._beacon)
        keys = credentials.to_json() if credentials else None
        return _line(self._beacon) == beacon.to_json() and _line(self._keys) == keys

    def clean(self) -> None:
        """Removes what our servers on this host left before it was booted.

        Nothing of other hosts, and nothing that cannot be read for certain: they may live.
        """
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):
                path = os.path.join(self._directory, name)
                if name.endswith(".json") and self._is_past(path):
                    _remove(path)
                    _remove(path[: -len(".json")] + ".key")

    def _is_past(self, path: str) -> bool:
        try:
            file = os.lstat(path)
            if not stat.S_ISREG(file.st_mode) or file.st_size > MAX_BEACON_BYTES:
                return False  # reading it might take for ever
            found = Beacon.from_json(_content(path))
        except (OSError, ValueError):
            return False
        is_ours = file.st_uid == found.uid == os.getuid()
        return is_ours and found.host == self._host and found.boot_id != self._boot

    def remove(self, pid: int) -> None:
        """Removes beacon and credentials if they are still those of process `pid`."""
        found = self.read()
        if found is not None and found[0].pid == pid:
            _remove(self._beacon)
            _remove(self._keys)


def _content(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _line(path: str) -> str | None:
    try:
        return _content(path).rstrip("\n")
    except (OSError, ValueError):
        return None


def _replace(path: str, content: str) -> None:
    # mkstemp makes it 0600 and exclusive, whatever the umask says.
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def host_name() -> str:
    """This host's own name, as `uname -n` gives it."""
    return socket.gethostname()


def boot_id() -> str:
    """Names this boot of this host; empty where the system has no such thing."""
    try:
        return _content("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""


def process_start(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 where it ended, or cannot be known."""
    try:
        state, start = state_and_start(_content(f"/proc/{pid}/stat"))
    except OSError:
        return 0
    return 0 if state in ENDED else start
