"""The beacons that this host can read: its own server's, and those of a shared home.

A beacon is a hint, never trusted: the handshake proves it.  Blocking, but for local files
only, and reads nothing that is not ours.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from ..protocol.beacon import Beacon, Credentials, state_and_start

__all__ = ["Sighting", "host_matches", "is_this_host", "sightings"]

LARGEST = 64 * 1024  # bytes read of one file


@dataclass(frozen=True)
class Sighting:
    """A beacon, and its credentials where they can be read."""

    beacon: Beacon
    credentials: Credentials | None

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
    """All beacons there, the freshest first; what is broken or not ours is passed over."""
    directory = os.path.join(state_directory, "servers")
    try:
        names = [name for name in os.listdir(directory) if name.endswith(".json")]
    except OSError:
        return
    paths = [os.path.join(directory, name) for name in names]
    for path in sorted(paths, key=_modified, reverse=True):
        try:
            beacon = Beacon.from_json(_read(path))
        except ValueError:
            continue
        if beacon.uid == os.getuid():
            yield Sighting(beacon, _credentials(path[: -len(".json")] + ".key"))


def host_matches(beacon: Beacon, name: str) -> bool:
    """Whether `name`, as a user or ssh_config spells it, means the beacon's host."""
    if beacon.host == name or beacon.host.partition(".")[0] == name:
        return True
    is_name = not name.replace(".", "").isdigit() and ":" not in name
    if is_name and name.partition(".")[0] == beacon.host.partition(".")[0]:
        # login1.site and login1.other-site are two hosts.
        return "." not in beacon.host or "." not in name
    return any(endpoint.partition("://")[2].rpartition(":")[0] == name for endpoint in
               beacon.endpoints if not endpoint.startswith("tcp://127."))  # fmt: skip


def is_this_host(name: str) -> bool:
    """Whether `name` is this machine, without asking a name server."""
    own = socket.gethostname()
    return name in ("localhost", "127.0.0.1", "::1", own, own.partition(".")[0])


def _credentials(path: str) -> Credentials | None:
    try:
        return Credentials.from_json(_read(path))
    except ValueError:
        return None


def _read(path: str) -> str:
    """The content; empty where it cannot be read, or is not ours to trust."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        owner = os.fstat(file.fileno()).st_uid
        return file.read(LARGEST) if owner in (0, os.getuid()) else ""


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _process_start(pid: int) -> int:
    """In clock ticks since boot; 0 where it cannot be known, -1 where only a zombie is left."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return 0
    state, start = state_and_start(stat)
    return -1 if state == "Z" else start
