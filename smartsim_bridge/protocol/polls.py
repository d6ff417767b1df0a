"""Which commands only ask a scheduler how things are, and when two of them ask the same.

Such a poll changes nothing, so one that is asked twice may be answered once, and one whose
answer was lost may be asked again.  What is not known for certain to be a poll is none: a
command that goes on asking (`squeue --iterate`), a subcommand or an option that changes
something, a line for a shell.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .messages import NULL, Start

__all__ = ["MAX_POLL_CACHE", "POLLS", "Key", "is_brief", "is_poll", "key_of"]

MAX_POLL_CACHE = 60.0  # seconds; who waits for a job asks no less often


class _Rule(NamedTuple):
    """When a program only asks."""

    verbs: tuple[str, ...] = ()  # one of these must come first, where there are any ...
    flags: tuple[str, ...] = ()  # ... or behind these, which take no value
    never: str = ""  # short options with which it does more, or does not end
    never_long: tuple[str, ...] = ()  # the same spelled out, as short as it may be abbreviated
    valued: str = ""  # short options whose value may stand in the same word


_ASKS = _Rule()

# Slurm; then PBS and Grid Engine, which share some names; then LSF.
POLLS: Mapping[str, _Rule] = {
    "squeue": _Rule(never="i", never_long=("--i",), valued="AjLMnoOpqRStuw"),
    "sinfo": _Rule(never="i", never_long=("--i",), valued="MnoOpSt"),
    "sacct": _ASKS,
    "sstat": _ASKS,
    "sprio": _ASKS,
    "sshare": _ASKS,
    "sdiag": _Rule(never="r", never_long=("--r",), valued="M"),
    "scontrol": _Rule(
        verbs=("show", "ping"),
        flags=("-a", "-d", "-dd", "-o", "--all", "--details", "--oneliner", "--json", "--yaml"),
    ),
    "qstat": _ASKS,
    "qhost": _ASKS,
    "qquota": _ASKS,
    "qacct": _ASKS,
    "qselect": _ASKS,
    "pbsnodes": _Rule(never="orcCnN"),
    "bjobs": _ASKS,
    "bhosts": _ASKS,
    "bqueues": _ASKS,
    "bhist": _ASKS,
    "bacct": _ASKS,
    "busers": _ASKS,
    "lsload": _ASKS,
    "lshosts": _ASKS,
    "lsid": _ASKS,
}

_ENDS = frozenset(("scancel", "qdel", "bkill"))

# Which shell, terminal or notebook it was asked from, and nothing else.
_IMMATERIAL = frozenset(
    ("_", "SHLVL", "OLDPWD", "DISPLAY", "WINDOWID", "TERM_SESSION_ID", "STY", "XDG_RUNTIME_DIR")
)
_IMMATERIAL_PREFIXES = ("SSH_", "DBUS_", "XDG_SESSION_", "TMUX", "JPY_")

Key = tuple[object, ...]  # equal where two commands ask the same


def is_poll(argv: Sequence[str], shell: bool = False) -> bool:
    """Whether a command only asks a scheduler, once, and so may be asked again."""
    rule = None if shell or not argv else POLLS.get(argv[0].rpartition("/")[2])
    if rule is None:
        return False
    words = argv[1:]
    if rule.verbs:
        return next((word for word in words if word not in rule.flags), "") in rule.verbs
    return not any(_is_never(word, rule) for word in words)


def is_brief(argv: Sequence[str], shell: bool = False) -> bool:
    """Whether it is over soon for certain: a poll, or what ends jobs."""
    if shell or not argv:
        return False
    return argv[0].rpartition("/")[2] in _ENDS or is_poll(argv)


def key_of(request: Start, directory: str, env: Mapping[str, str]) -> Key | None:
    """What must be equal for one run to answer two requests; None where it may not.

    It runs in `directory`, with `env` beside the server's own environment.  A poll with an
    stdin is a program of that name that reads.
    """
    if request.stdin != NULL or not is_poll(request.argv, request.shell):
        return None
    matters = frozenset(item for item in env.items() if not _is_immaterial(item[0]))
    return request.argv, directory, matters, request.stdout, request.stderr


def _is_never(word: str, rule: _Rule) -> bool:
    if word.startswith("--"):
        return word.startswith(rule.never_long)
    if not word.startswith("-"):
        return False
    for letter in word[1:]:
        if letter in rule.never:
            return True
        if letter in rule.valued:
            return False  # the rest is its value
    return False


def _is_immaterial(name: str) -> bool:
    return name in _IMMATERIAL or name.startswith(_IMMATERIAL_PREFIXES)
