"""Which programs a server runs, where it was told so (`--allow`).

A guard against accidents, and a plain answer to "what is that thing for": a client that
asks for anything else is refused, by name.  It is no boundary: whoever may run sbatch or
srun runs any script with it, and whoever may log in runs what they like without us.

Must not know how commands are started: says which file to run, and cleans an environment.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping

from ..protocol.messages import Start

__all__ = ["Allowance", "Refused", "is_program_name"]

# Variables with which the asker would choose the code after all: what the loader or an
# interpreter takes in before the program's first line, where programs are looked for, and
# which configuration, with its plug-ins, a scheduler's program reads.
_PREFIXES = (
    "LD_", "DYLD_", "PYTHON", "PERL5", "PERL_", "RUBY", "LUA_", "NODE_", "TCL", "BASH_",
    "GCONV_", "GLIBC_", "MALLOC_", "SGE_",
)  # fmt: skip
_NAMES = frozenset(
    (
        "PATH", "HOME", "ENV", "IFS", "CDPATH", "SHELL", "SHELLOPTS", "BASHOPTS", "PS4", "ZDOTDIR",
        "PERLLIB", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH",
        "NLSPATH", "LOCPATH", "HOSTALIASES", "RESOLV_HOST_CONF", "EDITOR", "VISUAL", "PAGER",
        "LESSOPEN", "LESSCLOSE", "SLURM_CONF", "PBS_CONF_FILE", "PBS_EXEC", "LSF_ENVDIR",
        "LSF_BINDIR", "LSF_LIBDIR", "LSF_SERVERDIR",
    )
)  # fmt: skip


class Refused(OSError):
    """The request is not among what is allowed; EPERM, and the program as `filename`."""

    def __init__(self, why: str, allowed: Iterable[str], program: str) -> None:
        text = f"{why}; this server runs only: {', '.join(allowed) or 'nothing'}"
        super().__init__(errno.EPERM, text, program)


def is_program_name(text: str) -> bool:
    """Whether it can stand in the list: a bare name, no path."""
    return bool(text) and "/" not in text and "\0" not in text and text not in (".", "..")


class Allowance:
    """The names in the list, looked for on `path` alone: the server's own, never a client's.

    Directories of `path` that are not absolute do not count: they would mean another
    program in each working directory.  Raises ValueError for what is no bare name.
    """

    def __init__(self, names: Iterable[str], path: str) -> None:
        self.names = tuple(dict.fromkeys(names))
        wrong = [name for name in self.names if not is_program_name(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no bare name of a program")
        absolute = [place for place in path.split(os.pathsep) if os.path.isabs(place)]
        self._path = os.pathsep.join(absolute)

    def check(self, request: Start) -> str:
        """The absolute path to run in place of argv[0].

        argv[0] may be a name of the list or the very path that this name stands for.
        Raises Refused, and FileNotFoundError for a name of the list that is not installed.
        """
        asked = request.argv[0] if request.argv else ""
        if request.shell:
            raise Refused("a shell line may run anything", self.names, asked)
        name = os.path.basename(asked) if os.path.isabs(asked) else asked
        if name not in self.names:
            raise Refused(f"{asked!r} is not allowed", self.names, asked)
        found = shutil.which(name, path=self._path) if self._path else None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if asked not in (name, found):
            raise Refused(f"{asked!r} is not {found}", self.names, asked)
        return found

    @staticmethod
    def clean(env: Mapping[str, str]) -> dict[str, str]:
        """The request's variables without those that would choose the code.

        Dropped and not refused: scripts hand on their whole environment and mean no harm.
        """
        return {
            name: value
            for name, value in env.items()
            if name not in _NAMES and not name.startswith(_PREFIXES)
        }

    def __repr__(self) -> str:
        return f"<Allowance: {', '.join(self.names)}>"
