"""The far half's own programs: what a request may name though no file of the head is called so.

Each runs in a process of its own, from the same file or folder as this server, so it is of
the server's version wherever that was put.  The server imports nothing of them.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

__all__ = ["PROGRAMS", "command_line"]

_MODULES = {"files": "files.__main__"}
PROGRAMS = tuple(_MODULES)

# The archive, or the folder, that holds the package.
_PLACE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Neither the user's site nor what the environment says may come between.  Names of files are
# UTF-8 on the wire, whatever the head's locale.
_PYTHON = ("-I", "-S", "-X", "utf8", "-c")
_SCRIPT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from smartsim_bridge.{module} import main; sys.exit(main(sys.argv[1:]))"
)


def command_line(argv: Sequence[str]) -> list[str]:
    """What runs it.  Raises FileNotFoundError for one that is not known."""
    module = _MODULES.get(argv[0]) if argv else None
    if module is None:
        name = argv[0] if argv else ""
        raise FileNotFoundError(errno.ENOENT, "this server has no such program of its own", name)
    return [sys.executable, *_PYTHON, _SCRIPT.format(module=module), _PLACE, *argv[1:]]
