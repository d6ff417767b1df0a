"""The text of one shim: a script for the shell, which needs Python only where there is a bridge.

Batch scripts name shims by their paths and run elsewhere, later; so a shim whose bridge is
gone becomes the real command, wherever PATH has that.  Plain POSIX: dash, bash, ksh and
busybox run it, with any bytes but NUL in every path.  Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ..protocol.environment import SHIM_MARKER

__all__ = ["SIGN", "stub_text"]

# Stands in the second line of every shim.
SIGN = b": a shim of smartsim-bridge"

# No `site`, and nothing of the user's environment, has a say in the program that is started.
# UTF-8 by force: whatever the locale is, arguments then come through byte by byte.
_OPTIONS = "-I -S -X utf8"
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); import stand_in; stand_in.main(sys.argv)"

# LC_CTYPE: the interpreter overwrites it in a C locale; so the program is told what it was.
_TEMPLATE = """\
#!{shell}
# {command}{sign}, which made this and makes it anew.
smartsim_bridge_run() {{
    exec {python} {options} -c {program} \\
        {folder} {command} "${{LC_CTYPE+=$LC_CTYPE}}" "$@"
}}
if [ -S "${{SMARTSIM_BRIDGE_SOCKET:-}}" ] && [ -x {python} ]; then
    smartsim_bridge_run first "$@"
fi
smartsim_bridge_rest=${{PATH:+$PATH:}}
while [ -n "$smartsim_bridge_rest" ]; do
    smartsim_bridge_place=${{smartsim_bridge_rest%%:*}}
    smartsim_bridge_rest=${{smartsim_bridge_rest#*:}}
    smartsim_bridge_place=${{smartsim_bridge_place:-.}}
    smartsim_bridge_file=$smartsim_bridge_place/{command}
    if [ -f "$smartsim_bridge_file" ] && [ -x "$smartsim_bridge_file" ] &&
        ! [ -e "$smartsim_bridge_place/{marker}" ] && ! [ "$smartsim_bridge_file" -ef "$0" ]; then
        unset SMARTSIM_BRIDGE_SOCKET
        exec "$smartsim_bridge_file" "$@"
    fi
done
{otherwise}"""

_GIVE_UP = """\
if [ -n "${{SMARTSIM_BRIDGE_SOCKET:-}}" ]; then
    smartsim_bridge_why='its bridge to the head has ended'
else
    smartsim_bridge_why='no bridge to a head is open'
fi
printf '%s\\n' "{command}: not on this host, and $smartsim_bridge_why;\\
 call init_command_server(), or use smartsim-bridge shell" >&2
exit 127
"""

# What starts it may ask at the terminal; the streams belong to the command.
_ASK_AGENT = """\
smartsim_bridge_try=first
if [ "${{SMARTSIM_BRIDGE_SOCKET:-}}" = gone ] || ! [ -S {socket} ]; then
    {agent} </dev/null >&2 || exit
    smartsim_bridge_try=last
fi
SMARTSIM_BRIDGE_SOCKET={socket}
export SMARTSIM_BRIDGE_SOCKET
smartsim_bridge_run "$smartsim_bridge_try" "$@"
"""


def stub_text(
    command: str,
    *,
    folder: str,
    python: str,
    shell: str = "/bin/sh",
    agent: Sequence[str] = (),
    agent_socket: str = "",
) -> str:
    """A shim of `command`, whose `folder` holds the program that `python` runs.

    `shell` is the line that the kernel reads.  With `agent`, an argv, a shim without session
    and real command runs that, which returns 0 once somebody listens at `agent_socket`.
    """
    quoted = shlex.quote
    otherwise = _ASK_AGENT if agent else _GIVE_UP
    return _TEMPLATE.format(
        shell=shell,
        command=command,
        folder=quoted(folder),
        python=quoted(python),
        options=_OPTIONS,
        program=quoted(_PROGRAM),
        sign=SIGN.decode(),
        marker=SHIM_MARKER,
        otherwise=otherwise.format(
            command=command, agent=" ".join(map(quoted, agent)), socket=quoted(agent_socket)
        ),
    )
