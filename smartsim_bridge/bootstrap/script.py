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

from ..errors import InvalidSettings

__all__ = ["COMMAND", "assignments", "compose", "quote", "text_of", "words"]

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


def compose(function: str, *, body: str, prelude: str) -> bytes:
    """A script that runs `prelude`, then `function` of `body`, and ends.

    All of it stands in one pair of braces: a shell that gets only a part does nothing at
    all.  Nothing in it has anything to read, so that no child eats what follows.  The
    prelude talks to stderr, as it may say anything, and is handed to `eval` as one word:
    an open quote in it cannot swallow the rest.
    """
    beginning = assignments(prelude=prelude) + text_of("prelude.sh")
    whole = f"{{\n{beginning}\n{body}\n{function} </dev/null\nexit\n}}\n"
    return whole.encode("utf-8", "surrogateescape")
