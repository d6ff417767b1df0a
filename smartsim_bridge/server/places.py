"""The directories a server uses, and whether they are safe.

The state directory may be on a home shared by many hosts: beacon, credentials, log.  The
node directory must not cross hosts: lock and unix socket.  A directory that others can
write or read, or that is not ours, is refused: somebody may have made it on purpose.
Must not know what is kept in them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UnsafeDirectory
from ..protocol.beacon import state_directory

__all__ = ["STATE_VARIABLE", "Places", "choose_places", "private_directory"]

STATE_VARIABLE = "SMARTSIM_BRIDGE_STATE_DIR"

# Not /run/user/UID: logind removes it at the last logout, and a session started by cron or
# a job has none, so two starts of one user could disagree about it.
NODE_ROOTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - made private below, or refused


@dataclass(frozen=True)
class Places:
    """Where one server keeps its things; all directories exist and are private."""

    state: str
    servers: str  # beacons and credentials
    logs: str
    journals: str
    spool: str  # output that waits for its reader
    lock: str  # file on this host
    socket: str  # unix socket on this host


def choose_places(environ: Mapping[str, str], state_dir: str = "") -> Places:
    """Makes what is missing; raises UnsafeDirectory, naming the path.

    One lock per state directory: a user with two of them (a test, another home) has two
    servers that know nothing of each other.
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    chosen = os.path.abspath(state_dir or environ.get(STATE_VARIABLE, "") or state_directory(home))
    state = private_directory(chosen)
    servers = private_directory(os.path.join(state, "servers"))
    logs = private_directory(os.path.join(state, "logs"))
    journals = private_directory(os.path.join(state, "journal"))
    spool = private_directory(os.path.join(state, "spool"))
    node = _node_directory()
    name = hashlib.sha256(os.path.realpath(state).encode("utf-8", "surrogateescape")).hexdigest()
    # Sixteen digits keep the path of the socket far below the 107 bytes that it may have.
    stem = os.path.join(node, name[:16])
    return Places(state, servers, logs, journals, spool, stem + ".lock", stem + ".sock")


def _node_directory() -> str:
    """The first root where a private directory can be had: a squatter must not stop us."""
    faults = []
    for root in NODE_ROOTS:
        try:
            _check_root(root)
            return private_directory(os.path.join(root, f"smartsim-bridge-{os.getuid()}"))
        except UnsafeDirectory as fault:
            faults.append(fault.what)
    raise UnsafeDirectory(f"No safe directory for the socket: {'; '.join(faults)}", step="places")


def _check_root(root: str) -> None:
    try:
        found = os.stat(root)
    except OSError as absent:
        raise UnsafeDirectory(f"{root}: {absent.strerror}", step="places") from None
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        # Without the sticky bit anybody could replace our directory by theirs.
        raise UnsafeDirectory(f"{root} is writable by all and not sticky", step="places")


def private_directory(path: str) -> str:
    """Makes `path`, or checks that it is a real directory of ours; mode 0700 either way."""
    before = os.umask(0o077)  # makedirs applies a mode to the last directory only
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        found = os.lstat(path)
    except OSError as refused:
        raise UnsafeDirectory(
            f"Cannot make {path}: {refused.strerror}",
            step="places",
            advice="Name another place with --state-dir.",
        ) from None
    finally:
        os.umask(before)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeDirectory(f"{path} is no directory, or a link", step="places")
    if found.st_uid != os.getuid():
        raise UnsafeDirectory(f"{path} belongs to uid {found.st_uid}", step="places")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)
    return path
