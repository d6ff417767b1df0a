"""paramiko's transport, with six habits mended, of its own and of hosts.

Many threads use the channels of one connection.  paramiko builds a message while it holds
the channel's lock and sends it after letting go, so the end of the input, or data, can
leave after the CLOSE of the same channel (RFC 4254, 5.3: nothing may).  OpenSSH then ends
the whole connection, with every other channel on it.  Here such a message is dropped: the
channel is closed, and nobody at the other end could have taken it.

Before each attempt to log in it asks for the service anew, which costs a round trip each; once
is enough (RFC 4252, 5), and ssh asks once.

Messages wait in line for the one that is being sent, without a limit: when the network is
lost under an upload, not even a close would return before the kernel gives up, after a
quarter of an hour.  Here the wait has an end.

A host sends two messages when the first channel is opened, and its kernel holds the second back
until ours has acknowledged the first, for which ours takes 40 ms: here it is told to hurry.

And why a host ends the connection goes into paramiko's log; here it is kept for the error.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from .ask import printable
from .library import paramiko

__all__ = ["BROKEN", "Transport", "farewell"]

# What using a channel may raise when its connection ends: paramiko has no one class for it,
# and even reading sends something, to widen the window.
BROKEN = (OSError, EOFError, paramiko.SSHException)

MAX_FAREWELL = 500  # characters of it are shown

_SERVICE_REQUEST = 5
_CHANNEL_OPEN = 90

# A message before ours that is not taken for so long is on no link, not even a slow one.
TURN_SECONDS = 10.0

# RFC 4254, 9: the messages that name a channel of the recipient right behind their number.
_WINDOW_ADJUST, _DATA, _EXTENDED_DATA, _EOF, _CLOSE, _REQUEST = 93, 94, 95, 96, 97, 98
_ABOUT_CHANNEL = frozenset((_WINDOW_ADJUST, _DATA, _EXTENDED_DATA, _EOF, _CLOSE, _REQUEST))


class Transport(paramiko.Transport):
    """Never speaks of a channel after its CLOSE; asks for plain host keys only.

    paramiko would take a host certificate and check no signature of an authority.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        #: Ways to log in that the host named before it heard anything from us.
        self.offered: tuple[str, ...] = ()
        # The host's numbers of channels that we have closed, until it uses them again.
        self._closed_channels: set[int] = set()
        self.farewell = ""
        super().__init__(*arguments, **keywords)
        self.clear_to_send_lock = _Turn()  # type: ignore[assignment]

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Without the certificates that paramiko adds."""
        return self._filter_algorithm("keys")  # type: ignore[no-any-return, attr-defined]

    def auth_none(self, username: str) -> list[str]:
        """Asks how the host lets users in, and keeps the answer."""
        try:
            return super().auth_none(username)
        except paramiko.BadAuthenticationType as error:
            self.offered = tuple(error.allowed_types)
            raise

    def _send_message(self, data: paramiko.Message) -> None:
        # paramiko holds one lock around this for everything that users send.
        raw = data.asbytes()
        if raw[0] == _SERVICE_REQUEST and self.offered:
            # An agent may ask a person to allow the signature: not in the caller's thread, whose
            # patience is limited, and who holds a lock.
            granted = (self.auth_handler,)
            threading.Thread(target=self._go_on, args=granted, name="ssh-auth", daemon=True).start()
            return
        if raw[0] in _ABOUT_CHANNEL:
            channel = int.from_bytes(raw[1:5], "big")
            if channel in self._closed_channels:
                return
            if raw[0] == _CLOSE:
                self._closed_channels.add(channel)
        super()._send_message(data)  # type: ignore[misc]
        if raw[0] == _CHANNEL_OPEN:
            self._acknowledge_at_once()

    def _acknowledge_at_once(self) -> None:
        """What arrives next; the kernel soon goes back to its ways.  Linux alone can be told."""
        # Beneath us may be a channel of a jump host, or a ProxyCommand.
        if hasattr(socket, "TCP_QUICKACK") and isinstance(self.sock, socket.socket):
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _go_on(self, login: Any) -> None:
        """Has the login go on as if the host had granted the service again."""
        granted = paramiko.Message()
        granted.add_string("ssh-userauth")
        granted.rewind()
        try:
            login._parse_service_accept(granted)
        # Handed to whoever waits for the login, whatever it is: nobody else sees it.
        except Exception as error:  # noqa: BLE001
            self.saved_exception = error
            login.auth_event.set()

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        raw = message.get_remainder()
        self._closed_channels.discard(int.from_bytes(raw[4:8], "big"))
        super()._parse_channel_open_success(message)  # type: ignore[misc]

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()  # the reason as a number says less
        self.farewell = printable(message.get_text())[:MAX_FAREWELL].strip()


class _Turn:
    """The lock around what users send; SSHException where it cannot be had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Once somebody waited in vain the next need not, as long as nothing moves.
        self._is_stuck = False

    def acquire(self) -> None:
        if not self._lock.acquire(timeout=0 if self._is_stuck else TURN_SECONDS):
            self._is_stuck = True
            raise paramiko.SSHException("the host takes nothing more")

    def release(self) -> None:
        self._is_stuck = False
        self._lock.release()


def farewell(transport: paramiko.Transport) -> str:
    """What the host said when it ended the connection, if anything."""
    return str(getattr(transport, "farewell", ""))
