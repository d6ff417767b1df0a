"""The beacons that this host can read: its own server's, and those of a shared home.

A beacon is a hint, never trusted: the handshake proves it.  Blocking, but for local files
only, and reads nothing that is not ours.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..bootstrap.neighbours import is_same_name
from ..bootstrap.plan import ELSEWHERE
from ..protocol.beacon import FRESH_SECONDS, Beacon, Credentials, state_and_start

__all__ = ["Sighting", "host_matches", "is_this_host", "sightings"]

LARGEST = 64 * 1024  # bytes read of one file


@dataclass(frozen=True)
class Sighting:
    """A beacon, and its credentials where they can be read."""

    beacon: Beacon
    credentials: Credentials | None
    # When its heartbeat was seen last, in seconds since the epoch: no part of who it is.
    touched: float = field(default=0.0, compare=False)

    @property
    def is_fresh(self) -> bool:
        """Whether its server, wherever that may be, has lately shown that it lives."""
        return time.time() - self.touched < FRESH_SECONDS

    @property
    def is_alive_here(self) -> bool:
        """Whether it belongs to a process of this host and this boot that still runs."""
        beacon = self.beacon
        return (
            beacon.host == socket.gethostname()
            and beacon.boot_id == _read("/proc/sys/kernel/random/boot_id").strip()
            and beacon.pid_start == _process_start(beacon.pid)
        )


def sightings(state_directory: str) -> Iterator[Sighting]:
    """All beacons there, the freshest first; what is broken or not ours is passed over.

    Then those of servers on this host that had to go elsewhere, for want of that directory.
    """
    yield from _sightings_in(state_directory)
    for root in ELSEWHERE:
        directory = f"{root}/smartsim-bridge-{os.getuid()}"
        if directory != state_directory and _is_own_directory(directory):
            for one in _sightings_in(directory):
                if one.beacon.instead_of == state_directory:
                    yield one


def _sightings_in(state_directory: str) -> Iterator[Sighting]:
    directory = os.path.join(state_directory, "servers")
    try:
        names = [name for name in os.listdir(directory) if name.endswith(".json")]
    except OSError:
        return
    touched = {path: _modified(path) for path in (os.path.join(directory, one) for one in names)}
    for path in sorted(touched, key=touched.__getitem__, reverse=True):
        try:
            beacon = Beacon.from_json(_read(path))
        except ValueError:
            continue
        if beacon.uid == os.getuid():
            yield Sighting(beacon, _credentials(path[: -len(".json")] + ".key"), touched[path])


def host_matches(beacon: Beacon, name: str) -> bool:
    """Whether `name`, as a user or ssh_config spells it, means the beacon's host."""
    if any(is_same_name(name, own) for own in (beacon.host, *beacon.known_as)):
        return True
    return any(endpoint.partition("://")[2].rpartition(":")[0] == name for endpoint in
               beacon.endpoints if not endpoint.startswith("tcp://127."))  # fmt: skip


def is_this_host(name: str) -> bool:
    """Whether `name` is this machine, without asking a name server."""
    own = socket.gethostname()
    return name in ("localhost", "127.0.0.1", "::1", own, own.partition(".")[0])


def _is_own_directory(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _credentials(path: str) -> Credentials | None:
    try:
        return Credentials.from_json(_read(path))
    except ValueError:
        return None


def _read(path: str) -> str:
    """The content; empty where it cannot be read, or is not ours to trust."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            owner = os.fstat(file.fileno()).st_uid
            return file.read(LARGEST) if owner in (0, os.getuid()) else ""
    except OSError:  # a shared home may also break in the middle of a file
        return ""


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _process_start(pid: int) -> int:
    """In clock ticks since boot; 0 where it cannot be known, -1 where only a zombie is left."""
    said = _read(f"/proc/{pid}/stat")
    if not said:
        return 0
    state, start = state_and_start(said)
    return -1 if state == "Z" else start
