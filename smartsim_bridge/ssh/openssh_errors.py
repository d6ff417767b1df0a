"""What the system's ssh says when it gives up, as errors of ours.

A table of what it prints in the C locale, the first match wins: what is printed beside
"Host key verification failed." tells why.  Lines are known by their beginning, since a host
words its banner as it likes.  Nothing else of ssh is known here, but the line of known_hosts
that it names is read, as ssh does not show its fingerprint.
"""

from __future__ import annotations

import re

from ..errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    CommandServerError,
    ConnectTimedOut,
    HostKeyChanged,
    HostKeyRefused,
    HostKeyRevoked,
    HostKeyUnknown,
    HostNameUnknown,
    HostUnreachable,
    SshFailed,
    UnsupportedSshConfig,
)
from .ask import printable
from .engine import KERBEROS, KERBEROS_ADVICE
from .known_hosts import key_at

__all__ = ["card_refusal", "error_from", "last_words"]

# What is quoted of ssh's complaints: the end, where the reason stands.
TAIL_LINES, TAIL_CHARACTERS = 4, 600

_TABLE: tuple[tuple[str, type[CommandServerError], str], ...] = (
    (r"^ssh: Could not resolve hostname", HostNameUnknown, "resolve"),
    (
        r"Bad configuration option|Bad \w+ argument|terminating, \d+ bad",
        UnsupportedSshConfig,
        "resolve",
    ),
    (r"marked as revoked|REVOKED HOST KEY DETECTED", HostKeyRevoked, "host key"),
    (r"^@ +WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED", HostKeyChanged, "host key"),
    (r"^No \S+ host key is known|^Host key verification failed", HostKeyUnknown, "host key"),
    (r"^ssh: connect to host .*: (Connection|Operation) timed out", ConnectTimedOut, "connect"),
    (r"^ssh: connect to (host|address) ", HostUnreachable, "connect"),
    (
        r"^Received disconnect from .*: Too many authentication failures",
        AuthenticationFailed,
        "authenticate",
    ),
    (r"^(\S+: )?Permission denied \(", AuthenticationFailed, "authenticate"),
    (r"Unable to negotiate|kex_exchange_identification|banner exchange", SshFailed, "host key"),
)

# ssh says with -v how it went, in figures; nothing of it is a reason.
_CHATTER = re.compile(r"^(Transferred: |Bytes per second: |Authenticated to |@+$|debug\d: )")

# An unknown key it shows only to the person whom it asks.
_KEY_LINE = re.compile(
    r"^(No \S+ host key is known|.*has changed and you have requested|.*marked as revoked).*$",
    re.MULTILINE,
)
_SHOWN = re.compile(
    r"fingerprint for the (?P<type>\S+) key sent by the remote host is\s+"
    r"(?P<fingerprint>SHA256:[A-Za-z0-9+/]+)"
)
_ASKED = re.compile(
    r"^(?P<type>\S+) key fingerprint is (?P<fingerprint>SHA256:[\w+/]+)", re.MULTILINE
)
_OFFENDING = re.compile(r"^Offending \S+ key in (?P<path>.+):(?P<line>\d{1,9})\s*$", re.MULTILINE)


def error_from(said: str, *, host: str, can_ask: bool, question: str = "") -> CommandServerError:
    """The error for an ssh that ended before it was logged in, its last question unanswered."""
    what = last_words(said) or "ssh ended without a word"
    for pattern, kind, step in _TABLE:
        if not re.search(pattern, said, re.MULTILINE):
            continue
        if issubclass(kind, HostKeyRefused):
            return _about_key(kind, said, what, host, question)
        error = kind(what, host=host, step=step)
        if kind is AuthenticationFailed:
            error = card_refusal(said) or error
            if not can_ask and _wants_a_person(said):
                error = AuthenticationRequired(f"nobody is there to answer: {what}")
            error.host, error.step = host, step
            if KERBEROS in _offered(said):
                error.advice = f"{error.advice} {KERBEROS_ADVICE}"
        return error
    return SshFailed(what, host=host, step="connect")


def card_refusal(said: str) -> AuthenticationFailed | None:
    """The error for a smart card that did not take the PIN, where one did not.

    ssh goes on to the next key of the same card and asks again, and cards lock themselves
    after a few wrong PINs.
    """
    found = re.search(r"^PKCS#11 login failed: (.*)$", said, re.MULTILINE)
    if found is None:
        return None
    return AuthenticationFailed(
        f"the smart card did not let us in: {printable(found.group(1).strip())}",
        step="authenticate",
        advice="It was asked once, since cards lock themselves after a few wrong PINs.",
    )


def last_words(said: str) -> str:
    """The end of what ssh complained of, in one line, safe to show."""
    lines = [line.strip() for line in said.splitlines()]
    told = [line for line in lines if line and not _CHATTER.match(line)]
    return printable("; ".join(told[-TAIL_LINES:]))[-TAIL_CHARACTERS:]


def _about_key(
    kind: type[HostKeyRefused], said: str, what: str, host: str, question: str
) -> HostKeyRefused:
    """What is said about the key, rather than the lesson around it."""
    found = _KEY_LINE.search(said)
    what = printable(found.group().strip()) if found else what
    asked = _ASKED.search(question) if kind is HostKeyUnknown else None
    if asked:
        what = f"the host key {asked['type']} {asked['fingerprint']} is not in known_hosts"
    shown, offending = asked or _SHOWN.search(said), _OFFENDING.search(said)
    expected = key_at(offending["path"], int(offending["line"])) if offending else None
    if shown and expected is not None:
        what = (
            f"the host showed another key, {shown['type']} {shown['fingerprint']}; "
            f"expected was {expected.key_type} {expected.fingerprint} "
            f"at {printable(expected.place)}"
        )
    return kind(
        what,
        host=host,
        step="host key",
        fingerprint=shown["fingerprint"] if shown else "",
        expected=(expected.fingerprint,) if expected is not None else (),
    )


def _wants_a_person(said: str) -> bool:
    return re.search("password|keyboard-interactive", _offered(said)) is not None


def _offered(said: str) -> str:
    """The ways to log in that were left when a host gave up on us."""
    return " ".join(re.findall(r"Permission denied \(([^)]*)\)", said))
