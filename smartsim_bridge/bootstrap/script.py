"""How text gets into a shell script that runs on the head.

Every script travels on the stdin of a bare `/bin/sh`.  So the login shell (bash, tcsh,
fish, a ForceCommand wrapper) has one word to understand, nothing but that word shows in
`ps`, and quoting has to be right for one shell only.  All quoting happens in `quote`, and
in `on_one_line` for what is sent first.
Pure but for reading the files of this package; used by `shell` and the steps.
"""

from __future__ import annotations

import base64
import functools
import shlex
from collections.abc import Iterable
from importlib.resources import files

from ..errors import InvalidSettings

__all__ = [
    "COMMAND",
    "assignments",
    "greeting",
    "on_one_line",
    "printing",
    "quote",
    "subshell",
    "text_of",
    "words",
]

# What the host is asked to execute.  It must stay one word of safe characters.
COMMAND = "/bin/sh"
# Characters per `printf`: where it is a program after all, one argument may have 128 KiB.
PIECE = 64 * 1024

# A start-up file that asks something reads our script for an answer.  It gets these lines, and
# the first question sees how many are missing.
SPARE_LINES = 8
_FIRST_SPARE, _NEXT_SPARE = "ssb_lines=.\n", "ssb_lines=${ssb_lines-}.\n"

# Where a start-up file replaces the login shell by zsh, that one reads our script; where sh is
# bash, it takes over functions that were exported.
_AS_SH = '[ -z "${ZSH_VERSION-}" ] || emulate sh; unset -f printf\n'


def quote(text: str) -> str:
    """`text` as one word of POSIX sh, whatever is in it; NUL cannot be passed at all."""
    if "\0" in text:
        raise InvalidSettings(f"{text!r} contains a NUL character")
    return shlex.quote(text)


def words(items: Iterable[str]) -> str:
    """Several words, each quoted."""
    return " ".join(quote(item) for item in items)


def assignments(**values: str) -> str:
    """One line per variable."""
    return "".join(f"{name}={quote(value)}\n" for name, value in values.items())


@functools.cache
def text_of(name: str) -> str:
    """A file of this package, as it is sent."""
    return files(__package__).joinpath(name).read_text("utf-8")


def printing(content: bytes, function: str) -> str:
    """Defines `function`, which prints `content` in base64."""
    encoded = base64.b64encode(content).decode()
    pieces = (encoded[at : at + PIECE] for at in range(0, len(encoded), PIECE))
    printed = "".join(f"    printf %s {quote(piece)}\n" for piece in pieces)
    return f"{function}() {{\n{printed}}}\n"


def greeting(question: str, *, nonce: str, prelude: str) -> str:
    """The first that a shell is sent: it makes itself ours, then answers `question`.

    Nothing of it is done unless all of it has arrived: lines that were taken from its
    beginning are counted, and what lacks a piece at either end has an open quote.
    """
    body = (
        assignments(nonce=nonce, spare=SPARE_LINES * ".", prelude=prelude)
        + text_of("prelude.sh")
        + question
    )
    spares = _FIRST_SPARE + (SPARE_LINES - 1) * _NEXT_SPARE
    return spares + _AS_SH + on_one_line(body)


def on_one_line(text: str) -> str:
    """`text` as one line that runs it, with one quote at its beginning and one at its end."""
    quote(text)  # refuses what cannot be passed
    for plain, escaped in (("\\", "\\\\"), ("%", "%%"), ("'", r"\047"), ("\n", r"\n")):
        text = text.replace(plain, escaped)
    return f"eval \"$(printf '\\n{text}')\"\n"


def subshell(body: str, function: str) -> str:
    """Defines `body` and runs `function` of it, leaving the shell around it as it was.

    It has nothing to read, so that no child eats the script that comes next.
    """
    return f"(\n{body}\n{function}\n) </dev/null\n"
