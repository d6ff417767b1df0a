"""One step further: from the head where a login ended to another one of the same site.

The ssh of that head is asked, with the user's own keys and known hosts there, and may ask
nobody anything.  Nothing secret goes along: what runs at the other end is a bare /bin/sh,
as at the first one.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress

from ..deadline import Deadline
from ..errors import HostUnreachable, LaunchFailed
from .host import Pipe
from .mark import send_and_read_to
from .noise import clean
from .script import COMMAND, words

__all__ = ["hop"]

MARK = "SMARTSIM-BRIDGE-HOP"
CONNECT_SECONDS = 2  # heads of one site are near each other
# No port is forwarded, nothing is asked, no connection is left behind for others to use; and
# a host that this head does not know is not made known by us.  A master of the user's that is
# there already is used.
OPTIONS = (
    *("-a", "-x", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "ClearAllForwardings=yes"),
    *("-o", "ControlMaster=no", "-o", "PermitLocalCommand=no"),
)
# What the user's ssh_config there may set that no command of ours could live with.  An older
# ssh ends at a keyword that it does not know, so each is tried first, where no host is asked.
# (IgnoreUnknown would do, but is heard once: the user's own would be lost.)
NEWER_OPTIONS = (
    *("RemoteCommand=none", "SessionType=default"),
    *("StdinNull=no", "ForkAfterAuthentication=no"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)


def hop(pipe: Pipe, host: str, *, deadline: Deadline) -> None:
    """Makes the shell at the other end of `pipe` a shell on `host`, or one that soon ends.

    Returns when ssh runs there: what it complains is the pipe's noise.  Raises LaunchFailed,
    HostUnreachable where `host` is no name for ssh.
    """
    if not _NAME.fullmatch(host):
        raise HostUnreachable(f"{host!r} is no name that can be given to ssh", step="hop")
    mark = f"{MARK} {secrets.token_hex(12)}"
    # The shell reads a whole compound command before it runs it, and nothing after `exec`:
    # what is sent once the mark has come goes to the other host.
    command = f'exec ssh "$@" {words(("--", host, COMMAND))}'
    script = f"{{ {_arguments(host)}; printf '\\n%s\\n' '{mark}'; {command}; }}\n"
    said = bytearray()
    end = f"\n{mark}\n".encode()
    came = False
    with suppress(OSError):  # in Python 3.9 a timeout is one of its own kind
        came = send_and_read_to(end, pipe.socket, script.encode(), said, deadline)
    if not came:
        noise = clean(said.decode("utf-8", "replace") + "\n" + pipe.noise)
        raise LaunchFailed("The shell there did not take the step", step="hop", noise=noise)


def _arguments(host: str) -> str:
    """Shell commands that make the options those of the shell."""
    known = f'ssh -G -F /dev/null -o "$one" {words(("--", host))} </dev/null >/dev/null 2>&1'
    return (
        f"set -- {words(OPTIONS)}; for one in {words(NEWER_OPTIONS)}; do "
        f'if {known}; then set -- "$@" -o "$one"; fi; done'
    )
