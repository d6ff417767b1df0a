"""The server's log: rotated, private, and safe to show on a terminal.

What clients send may end up in a line, so control characters are escaped; what they run
is not logged at all.
"""

from __future__ import annotations

import logging
import logging.handlers
import os

__all__ = ["open_logbook"]

MAX_BYTES, KEPT = 1024 * 1024, 3  # at most four MiB of a home that may have a small quota


class _Private(logging.handlers.RotatingFileHandler):
    """Its files are 0600 whatever the umask says."""

    def _open(self):  # type: ignore[no-untyped-def]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return open(descriptor, self.mode, encoding="utf-8", errors="backslashreplace")


class _Escaping(logging.Formatter):
    """One line per record, no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def open_logbook(path: str) -> None:
    """Sends the log of this process to `path`; without it where it cannot be opened."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    try:
        handler = _Private(path, maxBytes=MAX_BYTES, backupCount=KEPT)
    except OSError:
        # A full disk must not keep the server from serving.
        root.addHandler(logging.NullHandler())
        return
    handler.setFormatter(_Escaping("%(asctime)s %(process)d %(levelname)s %(message)s"))
    root.addHandler(handler)
