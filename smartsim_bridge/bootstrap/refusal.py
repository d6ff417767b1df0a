"""Why a login shell ended without having run our script: told by its words and its status.

Three cases, because the user turns to different people with them: nobody may log in to the
account, the site runs only certain commands for it, or a start-up file is at fault.  A
refusal has words of the site's own choosing, so what is no known fault of a shell and did
end with words is taken for one.  Pure; used by `shell`.
"""

from __future__ import annotations

import re

from ..errors import CommandsForbidden, NoLoginShell, ProbeFailed
from .noise import explain

__all__ = ["refusal"]

# nologin(8) of several systems, and what sites write in its place.
_NO_LOGIN = ("currently not available", "nologin", "no login shell", "not allowed to log in")

# git-shell, rssh, scponly, rrsync, rbash, internal-sftp, and forced commands of sites.
_FORBIDDEN = re.compile(
    r"(?<!read-)\bonly\b|restricted|interactive|forbidden|not (allowed|permitted)|rejected"
    r"|rrsync|unrecognized command|unknown command|denied by"
)

# Another program than sh read the script: how it says that our first lines make no sense.
_OTHER_READERS = (
    ("fish: ", "fish"),
    ("unable to read input file", "fish"),  # where its input is a socket
    ("ssb_lines=.: command not found", "csh"),
    ('file "<stdin>", line', "Python"),
)

# A start-up file that fails, or a host that is in trouble.
_FAULT = re.compile(
    r"not found|no such file|read-only file|syntax error|permission denied|cannot execute"
    r"|error while loading|resource temporarily unavailable|cannot allocate|segmentation fault"
    r"|core dumped"
)

_ONLY_AT_A_TERMINAL = (
    "Have the start-up file do that only at a terminal: `[ -t 0 ] || return` before it "
    "(in csh `if ( ! $?prompt ) exit`)."
)

_MAY_END = f"A start-up file may end the shell, or read its input. {_ONLY_AT_A_TERMINAL}"


def refusal(noise: str, status: int | None, *, host: str, step: str, eaten: bool) -> ProbeFailed:
    """The error for a session that ended before our script began.

    `noise` is what it said; `eaten` tells that something read our script before the shell did.
    """
    kind, what, advice = _judge(noise, noise.lower(), status, eaten)
    return kind(what, host=host, step=step, advice=advice, noise=noise)


def _judge(
    noise: str, lowered: str, status: int | None, eaten: bool
) -> tuple[type[ProbeFailed], str, str | None]:
    ended = "ended" if status is None else f"ended with status {status}"
    if eaten:
        return ProbeFailed, "A start-up file there read part of our script", _ONLY_AT_A_TERMINAL
    if any(saying in lowered for saying in _NO_LOGIN):
        return NoLoginShell, f"The account may not log in there: its shell {ended}", None
    for saying, reader in _OTHER_READERS:
        if saying in lowered:
            what = f"{reader} read our script instead of /bin/sh"
            return ProbeFailed, what, f"A start-up file may `exec` it. {_ONLY_AT_A_TERMINAL}"
    if not noise:
        return _judge_silence(ended, status)
    if _is_refusal(noise, lowered, status):
        return CommandsForbidden, f"The site did not run /bin/sh: the session {ended}", None
    what = f"The login shell {ended} and did not run our script"
    return ProbeFailed, what, explain(noise) or _MAY_END


def _is_refusal(noise: str, lowered: str, status: int | None) -> bool:
    """Welcomes say "authorized users only", so what was said last counts more."""
    if _FAULT.search(lowered.splitlines()[-1]):
        return False
    if _FORBIDDEN.search(lowered):
        return True
    return status != 0 and not _FAULT.search(lowered) and explain(noise) is None


def _judge_silence(ended: str, status: int | None) -> tuple[type[ProbeFailed], str, str | None]:
    """/bin/false says nothing, and neither does a start-up file that ends with `exit`."""
    what = f"without a word: its shell {ended}"
    if status:
        advice = f"The login shell may be /bin/false: ask the site. If it is not: {_MAY_END}"
        return NoLoginShell, f"The account let nobody in, {what}", advice
    return ProbeFailed, f"The account did not run our script, {what}", _MAY_END
