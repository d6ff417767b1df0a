"""What the known_hosts files say about one host.

paramiko's reader gives up on a whole file for one `@cert-authority`, `@revoked` or broken
line, and does not match patterns; this one reads lines as ssh does.  It only reads: the
verdict belongs to `host_keys`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .config_line import is_matching_any

__all__ = ["KnownKey", "fingerprint", "key_at", "new_line", "read_known_keys"]

MARKERS = ("@cert-authority", "@revoked")


@dataclass(frozen=True)
class KnownKey:
    """One line that matches the host: its key and where it stands."""

    path: str
    line: int
    marker: str
    key_type: str
    blob: bytes

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"

    @property
    def fingerprint(self) -> str:
        """As ssh shows it."""
        return fingerprint(self.blob)


def read_known_keys(name: str, paths: Iterable[str]) -> list[KnownKey]:
    """The keys of all lines that match `name`, which has the form `host` or `[host]:port`.

    Lines that cannot be read, and files that cannot, are passed over, as ssh does.
    """
    keys = (named for path in paths for named in _read_file(path))
    return [key for names, key in keys if _is_match(name, names)]


def key_at(path: str, line: int) -> KnownKey | None:
    """The key on that line, where one is."""
    return next((key for _, key in _read_file(path) if key.line == line), None)


def fingerprint(blob: bytes) -> str:
    """The fingerprint as ssh and the sites' web pages show it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def new_line(name: str, key_type: str, blob: bytes, *, hashes_name: bool) -> str:
    """The line that makes a key known."""
    shown = _hashed(name, os.urandom(20)) if hashes_name else name
    return f"{shown} {key_type} {base64.b64encode(blob).decode('ascii')}\n"


def _read_file(path: str) -> Iterator[tuple[bytes, KnownKey]]:
    """Each key, and the names before it."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        # Enough for names and key: comments are not looked at.
        words = line.split(None, 4)
        marker = words.pop(0).decode("ascii", "replace") if words and words[0][:1] == b"@" else ""
        if len(words) < 3 or words[0][:1] == b"#" or (marker and marker not in MARKERS):
            continue
        key_type = words[1].decode("ascii", "replace")
        blob = _decoded(key_type, words[2])
        if blob is not None:
            yield words[0], KnownKey(path, number, marker, key_type, blob)


def _is_match(name: str, names: bytes) -> bool:
    if not names.startswith(b"|"):
        return is_matching_any(name, names.decode("utf-8", "replace").split(","))
    parts = names.split(b"|")
    if len(parts) != 4 or parts[1] != b"1":
        return False
    try:
        salt = base64.b64decode(parts[2], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(_hashed(name, salt).encode(), names)


def _hashed(name: str, salt: bytes) -> str:
    # SHA-1 is what the format says; it hides names, it protects nothing else.
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _decoded(key_type: str, text: bytes) -> bytes | None:
    """The key, if it is one, whole, and of the type that the line says."""
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != key_type.encode() or len(blob) <= 4 + length:
        return None
    return blob if _is_whole(blob) else None


def _is_whole(blob: bytes) -> bool:
    """Whether it ends where a field ends; a full disk leaves lines that do not."""
    place = 0
    while place < len(blob):
        place += 4 + int.from_bytes(blob[place : place + 4], "big")
    return place == len(blob)
