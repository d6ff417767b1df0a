"""Drives one end between two descriptors, until it is over or nobody is at the other one.

Reads whatever has come before it says anything more, so that two ends never wait for each
other with full pipes between them.
"""

from __future__ import annotations

import contextlib
import os
import select

from .end import End
from .frames import Body

__all__ = ["pump", "write_all"]

READ_SIZE = 1024 * 1024

try:
    import fcntl

    _SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)
except ImportError:  # Windows: no far end runs there
    fcntl = None  # type: ignore[assignment]


def pump(end: End, source: int, sink: int) -> bool:
    """Whether it came to its end; raises what the end raises, and OSError.

    Whatever it raises, no frame is left half said.
    """
    for descriptor in (source, sink):
        _widen(descriptor)
    os.set_blocking(sink, False)
    pending = memoryview(b"")
    try:
        while True:
            pending = pending or memoryview(end.produce())
            if end.is_over and not pending:
                return True
            readable, writable, _ = select.select([source], [sink] if pending else [], [])
            if writable:
                with contextlib.suppress(BlockingIOError):
                    pending = pending[os.write(sink, pending) :]
            if readable:
                data = os.read(source, READ_SIZE)
                if not data:
                    return False
                end.receive(data)
    finally:
        os.set_blocking(sink, True)
        write_all(sink, pending)


def write_all(sink: int, data: Body) -> None:
    """Waits until it is gone.  Raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _widen(descriptor: int) -> None:
    """A pipe as large as is allowed: fewer turns for the same bytes."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _SET_PIPE_SIZE, READ_SIZE)
