"""A directory for one unix socket, and for what only its owner may see beside it.

Both engines make their tunnels' sockets there, and ssh's own master its askpass program.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile

from ..errors import SshFailed

__all__ = ["socket_directory"]

# sun_path holds 104 to 108, and ssh binds a name of 17 characters more before it renames it.
PATH_LIMIT = 84

# More than askpass and a user's configuration need.
ROOM = 65536

# What means something to ssh in an option, as a token, a variable or the end of a name.
_SPECIAL = re.compile(r"""[\s%$:\\"'#]""")


def socket_directory(parent: str, *, runs_programs: bool = False) -> str:
    """A fresh directory of mode 0700 in which sockets have room: in `parent`, or elsewhere."""
    for choice in (parent, "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 -- mkdtemp is safe there
        try:
            os.makedirs(choice, mode=0o700, exist_ok=True)
            path = tempfile.mkdtemp(prefix="ssb-", dir=choice)
        except OSError:
            continue
        is_good = len(os.fsencode(path)) < PATH_LIMIT - len("/m") and not _SPECIAL.search(path)
        if is_good and (not runs_programs or _takes_programs(path)):
            return path
        shutil.rmtree(path, ignore_errors=True)
    raise SshFailed(
        "there is no directory for a socket",
        step="connect",
        advice="Neither the runtime directory nor /tmp can be written to, and run from.",
    )


def _takes_programs(path: str) -> bool:
    """Whether a program can be written there, and run: a disk may be full, a mount forbid it."""
    probe = f"{path}/probe"
    try:
        with open(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "wb") as file:
            file.write(bytes(ROOM))
        may_run = os.access(probe, os.X_OK)
        os.unlink(probe)
    except OSError:
        return False
    return may_run
