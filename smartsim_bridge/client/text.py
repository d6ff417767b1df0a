"""Bytes and text at the border of `run`, by the rules of subprocess's text mode.

One difference, on purpose: undecodable bytes do not raise.  The command has run by then,
and its answer, perhaps the id of a job, must not be lost for a stray byte.
"""

from __future__ import annotations

__all__ = ["ENCODING", "ERRORS", "decode", "encode"]

ENCODING, ERRORS = "utf-8", "replace"


def encode(
    text: str | bytes | None, encoding: str | None = None, errors: str | None = None
) -> bytes | None:
    """Input as bytes; what is bytes passes as it is.  Raises TypeError for anything else."""
    if isinstance(text, str):
        return text.encode(encoding or ENCODING, errors or "surrogateescape")
    return None if text is None else bytes(memoryview(text))


def decode(
    data: bytes | None, encoding: str | None = None, errors: str | None = None
) -> str | None:
    """Output as text, with universal newlines."""
    if data is None:
        return None
    text = data.decode(encoding or ENCODING, errors or ERRORS)
    return text.replace("\r\n", "\n").replace("\r", "\n")
