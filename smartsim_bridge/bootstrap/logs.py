"""Reads the server's log on the head, whether a server runs or not.

It is wanted most when the server died, so no server is asked for it.
"""

from __future__ import annotations

from ..errors import NoServer, ProbeFailed
from .script import assignments
from .shell import Shell

__all__ = ["read_log"]

# The same place as probe.sh and the server choose; the newest log of this host only, for a
# shared home holds those of its neighbours as well.
_BODY = """
read_log() {
    [ -n "$state" ] || state=${SMARTSIM_BRIDGE_STATE_DIR:-$HOME/.local/state/smartsim-bridge}
    tail -n "$lines" "$state/logs/$(uname -n).log"
}
"""


def read_log(shell: Shell, *, lines: int, state_dir: str = "") -> str:
    """The last `lines` lines.  Raises NoServer where there is no log, and what Shell raises."""
    body = assignments(state=state_dir, lines=str(lines)) + _BODY
    answer = shell.ask(body, "read_log", step="logs", failure=ProbeFailed)
    if answer.status != 0:
        raise NoServer(
            "There is no log: no server has run there in the background",
            host=shell.host,
            step="logs",
        )
    return answer.text.strip("\n") + "\n"
