"""Finds out what answers at an address where our handshake failed.

libzmq tells apart little: a wrong server key, a web server and a silent port look alike.
So one plain connection is made, the opening of a ZMTP 3 greeting is sent, and what comes
back is judged.  Only for diagnosis: nothing is ever sent there but the public greeting.
"""

from __future__ import annotations

import asyncio

from ..errors import (
    HandshakeFailed,
    NobodyListening,
    NotCommandServer,
    PeerSilent,
    PlaintextPeer,
    ServerKeyMismatch,
)

__all__ = ["diagnose", "judge", "unanswered"]

# ZMTP 3.0, "Greeting": signature, version, mechanism (20 bytes), as-server, filler.  Only
# its first 11 bytes are sent: a peer then tells its mechanism, whereas one that saw another
# mechanism than its own would hang up first.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03"
_LENGTH = 64


async def diagnose(endpoint: str, *, timeout: float) -> HandshakeFailed:
    """The error that says best what is at `endpoint`; `timeout` in seconds."""
    try:
        reader, writer = await asyncio.wait_for(_connect(endpoint), timeout)
    except (asyncio.TimeoutError, TimeoutError):
        return unanswered(endpoint)
    except (OSError, ValueError, OverflowError) as refused:
        why = getattr(refused, "strerror", None) or refused  # no port at all, or none there is
        return NobodyListening(
            f"Nobody listens at {endpoint} ({why})", host=endpoint, step="connect"
        )
    try:
        return judge(endpoint, await _listen(reader, writer, timeout))
    finally:
        writer.close()


def unanswered(endpoint: str) -> NobodyListening:
    """What is said of a port from which not even a refusal comes."""
    return NobodyListening(
        f"Nothing answers at {endpoint}",
        host=endpoint,
        step="connect",
        advice='A firewall may drop the packets: use transport="tunnel", or check the port.',
    )


def judge(endpoint: str, said: bytes) -> HandshakeFailed:
    """What the first bytes of a peer say about it."""
    if not said:
        return PeerSilent(f"{endpoint} accepts and says nothing", host=endpoint, step="handshake")
    if said[:1] == b"\xff" and said[9:10] == b"\x7f":
        mechanism = said[12:32].rstrip(b"\0").decode("ascii", "replace")
        if mechanism == "CURVE":
            what = f"The server at {endpoint} does not hold the expected key"
            return ServerKeyMismatch(what, host=endpoint, step="handshake")
        if mechanism:
            what = f"{endpoint} speaks ZMQ with mechanism {mechanism}, not CURVE"
            return PlaintextPeer(what, host=endpoint, step="handshake")
        what = f"{endpoint} begins a ZMQ greeting and does not go on in time"
        return PeerSilent(what, host=endpoint, step="handshake")
    what = f"{endpoint} is no command server; it said {said[:60]!r}"
    return NotCommandServer(what, host=endpoint, step="handshake")


async def _connect(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc":
        return await asyncio.open_unix_connection(address)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def _listen(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float
) -> bytes:
    """Up to one greeting's length of what the peer says within the time."""
    said = b""
    try:
        # The blank line wakes a line-based server (HTTP) that waits for one; a ZMTP peer
        # has judged our greeting by then.
        for nudge in (_GREETING, b"\r\n\r\n"):
            writer.write(nudge)
            said = await _collect(reader, said, timeout / 2)
            if said:
                break
    except OSError:
        pass  # a reset ends what it said, and what it said before is what counts
    return said


async def _collect(reader: asyncio.StreamReader, said: bytes, timeout: float) -> bytes:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while len(said) < _LENGTH:
        try:
            piece = await asyncio.wait_for(reader.read(_LENGTH), max(0.0, end - loop.time()))
        except asyncio.TimeoutError:
            break
        if not piece:
            break
        said += piece
    return said
