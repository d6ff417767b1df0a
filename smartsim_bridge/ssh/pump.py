"""Carries bytes both ways between a local socket and an SSH channel.

One thread per direction: with one for both, a side that does not read would also keep the
other direction from getting through, and a cancellation could not overtake a flood.
The end of one direction is passed on and leaves the other open.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from .library import paramiko
from .transport import BROKEN

__all__ = ["Pump"]

# What one SSH packet carries, so that a full buffer becomes one packet.
CHUNK = 32768


class Pump:
    """Two daemon threads; both ends are closed when both directions ended, or by `close`."""

    def __init__(self, local: socket.socket, channel: paramiko.Channel) -> None:
        self._local = local
        self._channel = channel
        self._threads = [
            threading.Thread(target=self._carry_out, name="ssh-pump-out", daemon=True),
            threading.Thread(target=self._carry_in, name="ssh-pump-in", daemon=True),
        ]

    def start(self) -> None:
        """Returns at once."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until both directions ended."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Cuts both directions; what is under way is lost.  May be called from any thread."""
        with contextlib.suppress(*BROKEN):
            self._channel.close()
        # Wakes a thread that reads or writes; closing would free its descriptor under it.
        with contextlib.suppress(OSError):
            self._local.shutdown(socket.SHUT_RDWR)

    def _carry_out(self) -> None:
        try:
            while True:
                data = self._local.recv(CHUNK)
                if not data:
                    break
                self._channel.sendall(data)
            self._channel.shutdown_write()
        except BROKEN:
            if not self._channel.closed:
                self.close()
                return
            # The far side takes nothing more.  What it said before its end, such as why, may
            # still be in a buffer: the other thread carries it, and closes.
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_RD)

    def _carry_in(self) -> None:
        try:
            while True:
                data = self._channel.recv(CHUNK)
                if not data:
                    break
                self._local.sendall(data)
            self._local.shutdown(socket.SHUT_WR)
        except BROKEN:
            self.close()
        # Set when the command has ended or the channel is closed.  Until then the far side may
        # still be reading, and afterwards nobody is: our own side may never end by itself.
        self._channel.status_event.wait()
        self.close()
        self._threads[0].join()
        self._local.close()
