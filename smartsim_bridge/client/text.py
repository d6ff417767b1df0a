"""Bytes and text at the border of `run`, by the rules of subprocess's text mode.

One difference, on purpose: undecodable bytes do not raise.  The command has run by then,
and its answer, perhaps the id of a job, must not be lost for a stray byte.
"""

from __future__ import annotations

from typing import Optional, Union

__all__ = ["ENCODING", "ERRORS", "decode", "encode"]

ENCODING, ERRORS = "utf-8", "replace"


def encode(
    text: Union[str, bytes, None], encoding: Optional[str] = None, errors: Optional[str] = None
) -> Optional[bytes]:
    """Input as bytes; bytes pass as they are."""
    if isinstance(text, str):
        return text.encode(encoding or ENCODING, errors or "surrogateescape")
    return text


def decode(
    data: Optional[bytes], encoding: Optional[str] = None, errors: Optional[str] = None
) -> Optional[str]:
    """Output as text, with universal newlines."""
    if data is None:
        return None
    text = data.decode(encoding or ENCODING, errors or ERRORS)
    return text.replace("\r\n", "\n").replace("\r", "\n")
