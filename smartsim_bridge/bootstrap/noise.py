"""What a host says besides the answer: banners, start-up files, error messages.

Kept because it usually names the fault, and kept small and harmless because it ends on
the user's terminal: bounded, control characters escaped, nothing secret.
"""

from __future__ import annotations

from ..protocol.beacon import READY_WORD

__all__ = ["NOISE_KEPT", "NOISE_LIMIT", "clean", "explain"]

# A start-up file may print a lot before our answer, of which the end is kept; but not for ever.
NOISE_LIMIT, NOISE_KEPT = 64 << 20, 1 << 16

MAX_LINES = 30  # a motd is longer and says less; the end of it is nearest to the fault
MAX_LINE = 300  # characters; more is a data dump
MAX_TEXT = 64 * 1024  # characters looked at, from the end

_SECRET = (READY_WORD, "client_secret")

_ELSEWHERE = "free space, or set SMARTSIM_BRIDGE_STATE_DIR (which applies on the head too)."

# What hosts are known to say when they are in trouble, and what it means for the user.
_SAYINGS = (
    ("expired", "Log in once with ssh and renew the password."),
    ("no space left", f"The disk is full: {_ELSEWHERE}"),
    ("quota", f"The quota is used up: {_ELSEWHERE}"),
    ("fork", "The account has too many processes there: end some."),
)


def clean(text: str) -> str:
    """The last lines of `text`, safe to print and without the lines that carry keys."""
    lines = [line.strip() for line in text[-MAX_TEXT:].splitlines()]
    kept = [line for line in lines if line and not any(word in line for word in _SECRET)]
    skipped = len(kept) - MAX_LINES
    shown = [f"  {_escape(line)}" for line in kept[-MAX_LINES:]]
    return "\n".join([f"  ... {skipped} lines before", *shown] if skipped > 0 else shown)


def explain(noise: str) -> str | None:
    """Advice for noise that we have met before."""
    lowered = noise.lower()
    return next((advice for saying, advice in _SAYINGS if saying in lowered), None)


def _escape(line: str) -> str:
    cut = line if len(line) <= MAX_LINE else line[:MAX_LINE] + " ..."
    return "".join(c if c.isprintable() or c == "\t" else _name(c) for c in cut)


def _name(character: str) -> str:
    """A backslash name; bytes that were no text come as lone surrogates."""
    code = ord(character)
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else None
    return character.encode("unicode_escape").decode() if byte is None else f"\\x{byte:02x}"
