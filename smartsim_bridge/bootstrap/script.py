"""How text gets into a shell script that runs on the head.

Every script travels on the stdin of a bare `/bin/sh`.  So the login shell (bash, tcsh,
fish, a ForceCommand wrapper) has one word to understand, nothing but that word shows in
`ps`, and quoting has to be right for one shell only.  All quoting happens in `quote`.
Pure but for reading the files of this package; used by `shell` and the steps.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable
from importlib.resources import files

from ..errors import InvalidSettings

__all__ = ["COMMAND", "assignments", "beginning", "quote", "subshell", "text_of", "words"]

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


def beginning(prelude: str) -> str:
    """What a shell of ours does first; what the prelude loads stays for all that follows.

    The prelude is handed to `eval` as one word: an open quote in it cannot swallow the rest.
    """
    return assignments(prelude=prelude) + text_of("prelude.sh")


def subshell(body: str, function: str) -> str:
    """Defines `body` and runs `function` of it, leaving the shell around it as it was.

    It has nothing to read, so that no child eats the script that comes next.
    """
    return f"(\n{body}\n{function}\n) </dev/null\n"
