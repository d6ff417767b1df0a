"""The stdio rung's end on the head: a script that ties an exec channel to the server's socket.

The relay itself is the far half's `server/relay.py`, sent as text, so that it works with
any running server and leaves no file.  Blocking; gives and takes bytes, makes no link.
"""

from __future__ import annotations

import base64
import secrets
import socket
from importlib.resources import files

from ..deadline import Deadline
from ..errors import LaunchFailed
from ..protocol.beacon import Beacon
from .host import Pipe
from .mark import send_and_read_to
from .noise import clean, explain
from .script import COMMAND, quote

__all__ = ["COMMAND", "start_relay"]

# Printed by the relay when it is connected: everything before it is noise.
CONNECTED = "SMARTSIM-BRIDGE-RELAY"

# What a shell ends with that could not run a program: not allowed to, and not found.
_NOT_RUN = (126, 127)


def start_relay(pipe: Pipe, beacon: Beacon, *, prelude: str, host: str, deadline: Deadline) -> None:
    """Makes the shell at the other end of `pipe` the relay; returns when it is connected.

    Raises LaunchFailed with what the host said.
    """
    nonce = secrets.token_hex(12)
    mark, said = f"\n{CONNECTED} {nonce}\n".encode(), bytearray()
    what, has_ended = "The relay did not start", False
    try:
        script = _script(beacon, prelude, nonce)
        if send_and_read_to(mark, pipe.socket, script, said, deadline):
            return
        what, has_ended = "The relay ended at once", True
    except socket.timeout:  # in Python 3.9 not yet a TimeoutError
        what = "The relay did not start in time"
    except OSError as broken:
        what = f"The relay could not be reached: {broken}"
    noise = clean(said.decode("utf-8", "surrogateescape") + "\n" + pipe.noise)
    advice = explain(noise) or 'The far end of transport="stdio" needs a Python there.'
    # Of a program by another name, as the ssh of a step to another head, it says nothing.
    if has_ended and beacon.python in noise and pipe.status in _NOT_RUN:
        what = f"The server's Python, {beacon.python}, cannot be run there any more"
        advice = (
            "Its environment was moved or removed: put it back, or end that server "
            f"(pid {beacon.pid} on {beacon.host}) and start another."
        )
    raise LaunchFailed(what, host=host, step="relay", advice=advice, noise=noise)


def _script(beacon: Beacon, prelude: str, nonce: str) -> bytes:
    source = files("smartsim_bridge").joinpath("server/relay.py").read_text("utf-8")
    packed = base64.b64encode(source.encode())
    load = f"import base64;exec(base64.b64decode('{packed.decode()}'))"
    arguments = " ".join(quote(text) for text in (beacon.python, "-c", load, beacon.socket, nonce))
    # The prelude has nothing to read and talks to stderr; what it exports stays.  Nothing is
    # sent behind this before the mark comes, because the shell reads ahead.
    first = f"eval {quote(prelude)} </dev/null >&2\n" if prelude else ""
    return f"{first}exec {arguments}\n".encode("utf-8", "surrogateescape")
