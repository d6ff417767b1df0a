"""Finds a mark in what a shell says, where the bytes behind it belong to somebody else.

Start-up files may say a lot before it; the end of that is kept for the error message.
Used by `relay` and `hop`, whose shell becomes another program.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from ..deadline import ONE_DAY, Deadline
from .noise import NOISE_KEPT, NOISE_LIMIT

__all__ = ["send_and_read_to"]


def send_and_read_to(
    mark: bytes, stream: socket.socket, script: bytes, said: bytearray, deadline: Deadline
) -> bool:
    """Sends `script`, then takes what comes up to and with `mark`; whether it came.

    The end of what was taken is left in `said`, whatever is raised: socket.timeout at the
    deadline, OSError where the stream breaks.
    """
    _set_limit(stream, deadline)
    # A program that has ended takes nothing; what it said is still to be read.
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.sendall(script)
    skipped = 0
    while skipped < NOISE_LIMIT:
        _set_limit(stream, deadline)
        try:
            ahead = stream.recv(NOISE_KEPT, socket.MSG_PEEK)
        except ConnectionResetError:  # it ended before it had read all of the script
            return False
        if not ahead:
            return False
        tail = bytes(said[1 - len(mark) :])
        at = (tail + ahead).find(mark)
        said += stream.recv(len(ahead) if at < 0 else at + len(mark) - len(tail))
        if said.endswith(mark):
            return True
        skipped += max(0, len(said) - NOISE_KEPT)
        del said[:-NOISE_KEPT]
    return False


def _set_limit(stream: socket.socket, deadline: Deadline) -> None:
    if deadline.is_over:  # what never pauses would never wait that long
        raise socket.timeout
    stream.settimeout(deadline.at_most(ONE_DAY))
