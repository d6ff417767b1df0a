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
from .script import COMMAND, quote

__all__ = ["COMMAND", "start_relay"]

# Printed by the relay when it is connected: everything before it is noise.
CONNECTED = "SMARTSIM-BRIDGE-RELAY"
LIMIT = 256 * 1024  # of noise before that
PIECE = 1  # bytes read at a time: what follows the mark belongs to the link


def start_relay(
    pipe: socket.socket, beacon: Beacon, *, prelude: str, host: str, deadline: Deadline
) -> None:
    """Makes the shell at the other end of `pipe` the relay; returns when it is connected.

    Raises LaunchFailed with what the host said.
    """
    nonce = secrets.token_hex(12)
    pipe.sendall(_script(beacon, prelude, nonce))
    mark = f"\n{CONNECTED} {nonce}\n".encode()
    said = bytearray()
    try:
        while not said.endswith(mark) and len(said) < LIMIT:
            pipe.settimeout(max(0.01, deadline.at_most(3600.0)))
            piece = pipe.recv(PIECE)
            if not piece:
                raise _failed("The relay ended at once", host, said)
            said += piece
    except socket.timeout:  # in Python 3.9 not yet a TimeoutError
        raise _failed("The relay did not start in time", host, said) from None
    except OSError as broken:
        raise _failed(f"The relay could not be reached: {broken}", host, said) from None
    if not said.endswith(mark):
        raise _failed("The relay did not start", host, said)


def _script(beacon: Beacon, prelude: str, nonce: str) -> bytes:
    source = files("smartsim_bridge").joinpath("server/relay.py").read_text("utf-8")
    packed = base64.b64encode(f"{source}\nimport sys\nsys.exit(relay(*sys.argv[1:]))\n".encode())
    load = f"import base64;exec(base64.b64decode('{packed.decode()}'))"
    arguments = " ".join(quote(text) for text in (beacon.python, "-c", load, beacon.socket, nonce))
    # The prelude has nothing to read and talks to stderr; what it exports stays.  Nothing is
    # sent behind this before the mark comes, because the shell reads ahead.
    first = f"eval {quote(prelude)} </dev/null >&2\n" if prelude else ""
    return f"{first}exec {arguments}\n".encode("utf-8", "surrogateescape")


def _failed(what: str, host: str, said: bytearray) -> LaunchFailed:
    noise = bytes(said[-2000:]).decode("utf-8", "replace")
    return LaunchFailed(what, host=host, step="relay", noise=noise.strip())
