"""What a running server leaves behind when it is ended, and whether it may be.

Used by `smartsim-bridge stop` and `start --replace`.  Knows a bridge to the server, not how
that came about; what it has to tell goes to `say`, a line or several at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import __version__
from .client.blocking import Bridge
from .client.listing import CommandInfo
from .client.listing_text import table
from .errors import RequestRefused

__all__ = ["end_server", "make_room"]


def end_server(bridge: Bridge, say: Callable[[str], None]) -> str:
    """Ends it and all its commands; what was done, in words.

    Raises LinkLost where it does not end.
    """
    status, lost = bridge.status(), _unfinished(bridge)
    kept = [one for one in lost if one.keep]
    if kept:
        say(f"with it end {_count(kept)} that would have gone on without a client:\n{_lines(kept)}")
    bridge.shutdown()
    done = f"server on {status.server_host}, pid {status.server_pid}, stopped"
    for other in status.others:
        say(f"another server of yours goes on: {other}")
    return f"{done}; {_count(lost)} ended with it" if lost else done


def make_room(
    bridge: Bridge, say: Callable[[str], None], *, force: bool, provision: bool = False
) -> bool:
    """Whether a server of this version runs, or may be started, now.

    One of this version stays unless `force` says otherwise, or `provision` that it is to get the
    pyzmq that it lacks.  Then it goes on as itself, and another as this version, with all
    commands; where that cannot be, it is ended, if nothing is lost by it or `force` says that
    this does not matter.
    """
    status = bridge.status()
    is_good = status.version == __version__ and not (provision and not status.server_zmq)
    if not force and (is_good or _gives_way(bridge, say, provision)):
        return True
    lost = _unfinished(bridge)
    if lost and not force:
        what = f"{_count(lost)} would end with the server, version {status.version}"
        say(f"{what}; nothing was done:\n{_lines(lost)}wait for them, or use --force")
        return False
    say(end_server(bridge, say))
    return True


def _gives_way(bridge: Bridge, say: Callable[[str], None], provision: bool) -> bool:
    """Whether it goes on as this version, with all its commands."""
    try:
        status = bridge.replace_server()
    except RequestRefused as refused:
        say(refused.what)
        return False
    what = f"is {status.version} now" + (
        f", with pyzmq {status.server_zmq or 'none'}" if provision else ""
    )
    say(f"server on {status.server_host}, pid {status.server_pid}, {what}")
    return True


def _unfinished(bridge: Bridge) -> list[CommandInfo]:
    return [one for one in bridge.commands() if not one.is_over]


def _lines(commands: list[CommandInfo]) -> str:
    return table(commands, time.time())


def _count(commands: list[CommandInfo]) -> str:
    return f"{len(commands)} command{'s' if len(commands) != 1 else ''}"
