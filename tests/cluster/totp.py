"""One-time codes as a telephone shows them (RFC 6238): for the account mfa."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from .accounts import TOTP_SECRET

__all__ = ["code_now"]

STEP_SECONDS = 30
DIGITS = 6


def code_now(secret: str = TOTP_SECRET) -> str:
    counter = int(time.time()) // STEP_SECONDS
    digest = hmac.new(base64.b32decode(secret), counter.to_bytes(8, "big"), hashlib.sha1).digest()
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)
