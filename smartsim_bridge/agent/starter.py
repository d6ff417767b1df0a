"""Sees to it that there is an agent: run by a shim that found none, or by a person.

It has the shim's terminal, where there is one, and asks there what the agent must know to
log in.  It ends with 0 when shims are served.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from .. import __version__
from ..errors import AgentFailed, CommandServerError
from ..protocol.environment import without_job
from ..settings import Settings
from ..shims.wire import BRIDGE_FAULT
from ..ssh.ask import Ask, default_ask
from .channel import StarterSide, not_started, parts_of
from .installation import Installation, python_words
from .place import Place

__all__ = ["ensure_agent", "main"]

# Beyond the time that the connect itself has: for two interpreters to start on a busy host.
START_SECONDS = 30.0
LONGEST_LOG = 256 * 1024
INTERRUPTED = 130


def main() -> int:
    """For a shim: the folder that it is in is the one argument."""
    try:
        ensure_agent(Installation.read(Path(sys.argv[1])))
    except CommandServerError as failed:
        sys.stderr.write(f"smartsim-bridge: {failed}\n")
        return BRIDGE_FAULT
    except OSError as failed:
        sys.stderr.write(f"smartsim-bridge: no agent: {failed}\n")
        return BRIDGE_FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def ensure_agent(installation: Installation, ask: Ask | None = None) -> Place:
    """There is an agent of this version now.  Raises CommandServerError where there cannot be."""
    place = installation.place
    if _serves(place):
        return place
    place.make()
    patience = Settings.gather(**installation.wishes).timeout + START_SECONDS
    with place.starting(patience) as noted:
        if _serves(place):
            return place  # another shim was quicker
        failure = place.failure_since(noted)
        if failure:
            raise not_started(failure)
        try:
            place.retire()  # one of another version, or one that takes no more shims
            _start(installation, place, ask or default_ask(), patience)
        except AgentFailed as failed:
            place.note_failure(parts_of(failed))
            raise
    return place


def _serves(place: Place) -> bool:
    state = place.state()
    return state is not None and state.version == __version__ and os.path.exists(place.socket)


def _start(installation: Installation, place: Place, ask: Ask, patience: float) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(place.log, "ab") as log:
        os.fchmod(log.fileno(), 0o600)
        if os.fstat(log.fileno()).st_size > LONGEST_LOG:
            log.truncate(0)
        subprocess.Popen(
            python_words("service", str(installation.folder), str(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            cwd="/",  # whatever directory the shim was called in can be unmounted
            env=without_job(os.environ),
            start_new_session=True,
        )
        theirs.close()
        StarterSide(ours, ask).attend(patience)
