"""One-time codes, as a person's phone shows them: RFC 6238 with its defaults."""

from __future__ import annotations

import base64
import hmac
import struct
import time

__all__ = ["one_time_code"]

STEP_SECONDS = 30
DIGITS = 6


def one_time_code(secret: str, now: float | None = None) -> str:
    """The code of this half minute; `secret` as a QR code holds it, in base 32."""
    counter = int(time.time() if now is None else now) // STEP_SECONDS
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", counter), "sha1")
    offset = digest[-1] & 0xF
    (number,) = struct.unpack(">I", digest[offset : offset + 4])
    return f"{(number & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}}"
