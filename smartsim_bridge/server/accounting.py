"""Whether this host's Slurm keeps account of jobs, by its configuration; without, sacct knows none.

Read, not asked: a site's database is everybody's, and what runs no process waits for none.
Whether the database answers only a sacct can tell.  For a thread, as locating is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping

__all__ = ["why_no_accounting"]

MAX_BYTES = 4 * 1024 * 1024  # of one file; those of large sites have some hundred KiB
MAX_FILES = 64  # that include each other

# slurm.conf(5): names of parameters in any case, several in a line, a backslash goes on with the
# line, # begins a comment unless a backslash is before it.
_COMMENT = re.compile(r"(?<!\\)#.*")
_CONTINUED = re.compile(r"\\\r?\n")
_INCLUDE = re.compile(r"\s*include\s+(\S.*?)\s*", re.IGNORECASE)
_STORAGE = re.compile(r"(?:^|\s)AccountingStorageType\s*=\s*\"?([^\s\"]+)", re.IGNORECASE)
_NONE = ("accounting_storage/none", "none", "(null)")

# Where it lies as a rule: as Debian and EPEL, as SchedMD, and where sackd or slurmd keeps what
# a host without one got from the controller.
_USUAL = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/usr/local/etc/slurm.conf",
    "/run/slurm/conf/slurm.conf",
)


def why_no_accounting(program: str, environment: Mapping[str, str]) -> str:
    """The slurm.conf that asks for no accounting; "" where one does, or none can be read.

    `program` is a command of that Slurm, and `environment` what it would run with.
    """
    for file in _places(program, environment):
        try:
            storage = list(_storages(file, [MAX_FILES]))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return ""
        return file if not storage or storage[-1].lower() in _NONE else ""
    return ""


def _places(program: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Where that Slurm would look, in its order as far as it can be known."""
    named = environment.get("SLURM_CONF")
    if named:
        if os.path.isabs(named):  # else it depends on where a command runs
            yield named
        return
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    yield os.path.join(prefix, "etc", "slurm.conf")
    yield os.path.join(prefix, "etc", "slurm", "slurm.conf")
    yield from _USUAL


def _storages(file: str, left: list[int]) -> Iterator[str]:
    """Each AccountingStorageType in turn: the last one counts.  Raises OSError, ValueError."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("too many files")
    for line in _CONTINUED.sub(" ", _read(file)).splitlines():
        said = _COMMENT.sub("", line)
        included = _INCLUDE.fullmatch(said)
        if included:
            try:
                yield from _storages(os.path.join(os.path.dirname(file), included[1]), left)
            except FileNotFoundError:
                raise ValueError("an included file is missing") from None  # or has a name with %c
        else:
            yield from _STORAGE.findall(said)


def _read(file: str) -> str:
    """A pipe or a device is not read."""
    with open(
        os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb"
    ) as found:
        about = os.fstat(found.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise ValueError("no such file is a configuration")
        return found.read(MAX_BYTES).decode("utf-8", "replace")
