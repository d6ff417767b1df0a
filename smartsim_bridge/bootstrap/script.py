"""How text gets into a shell script that runs on the head.

Every script travels on the stdin of a bare `/bin/sh`.  So the login shell (bash, tcsh,
fish, a ForceCommand wrapper) has one word to understand, nothing but that word shows in
`ps`, and quoting has to be right for one shell only.  All quoting happens in `quote`.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable
from importlib.resources import files

from smartsim_bridge.errors import InvalidSettings

__all__ = ["COMMAND", "assignments", "closing", "opening", "quote", "text_of", "words"]

# What the host is asked to execute.  It must stay one word of safe characters.
COMMAND = "/bin/sh"


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


def opening(prelude: str) -> str:
    """What every script of ours begins with; the prelude talks to stderr, as it may say anything.

    The prelude is handed to `eval` as one word: an open quote in it cannot swallow the
    rest of the script.
    """
    return assignments(prelude=prelude) + text_of("prelude.sh")


def closing(function: str) -> str:
    """Runs `function` with nothing to read, so that no child eats the script.

    The last line of a script: a shell that got only a part of it does nothing at all.
    """
    return f"{function} </dev/null\nexit\n"
