"""How Slurm's commands read their options: what of an argv is an option, what comes after.

Slurm uses getopt_long with POSIX's rule that the first word ends the options: `-N2`, `-N 2`,
`-vvN2`, `--nodes=2`, `--nodes 2`, `--nod 2`, `--`.  Pure; used by `families`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = [
    "SALLOC_FLAGS",
    "SBATCH_FLAGS",
    "SBATCH_VALUES",
    "SINFO_VALUES",
    "SQUEUE_VALUES",
    "has_option",
    "split_options",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Letters as in getopt: ":" is a value, "::" one that can only be attached.  Long options
# that have a value; of sbatch there are so many that those without are listed instead.
SQUEUE_VALUES = (
    "A:ahi:j::lL:n:M:O:o:p:Pq:R:rs::S:t:u:U:vVw:",
    _words(
        "account accounts cluster clusters format Format iterate jobs licenses name node"
        " nodelist nodes partition partitions qos reservation sort states state steps user"
        " users"
    ),
)
SINFO_VALUES = (
    "adehi:lM:n:No:O:p:rRsS:t:TvV",
    _words("cluster clusters format Format iterate nodes partition sort states state"),
)
# Of sbatch, salloc and srun, which agree on nearly all.
SBATCH_VALUES = (
    "A:a:b:B:C:c:D:d:Ee:F:G:Hg:hI::i:J:K::k::L:lM:m:N:n:Oo:P:p:Qq:r:S:sT:t:uVvWw:Xx:Z",
    frozenset[str](),
)
SBATCH_FLAGS = _words(
    "contiguous disable-status exact exclusive external external-launcher get-user-env"
    " help hold ignore-pbs immediate interactive kill-command kill-on-bad-exit label"
    " multi-prog nice no-allocate no-bell bell no-kill no-requeue no-shell oom-kill-step"
    " overcommit overlap oversubscribe parsable preserve-env propagate pty quiet"
    " quit-on-interrupt reboot requeue resv-ports share spread-job stepmgr test-only"
    " unbuffered usage use-min-nodes verbose version wait wait-for-children whole x11"
)
SALLOC_FLAGS = SBATCH_FLAGS


def split_options(
    arguments: Sequence[str],
    letters: str,
    valued: Collection[str],
    flags: Collection[str] = (),
) -> tuple[list[tuple[str, str | None]], Sequence[str]]:
    """The options, in order, as (name without dashes, value); and the words behind them.

    With `flags`, every long option but those and their abbreviations has a value.
    """
    given: list[tuple[str, str | None]] = []
    at = 0
    while at < len(arguments):
        one = arguments[at]
        if one == "--":
            return given, arguments[at + 1 :]
        if one == "-" or not one.startswith("-"):
            break
        at += 1
        following = arguments[at] if at < len(arguments) else None
        if one.startswith("--"):
            found, takes_next = _long(one[2:], following, valued, flags)
        else:
            found, takes_next = _short(one[1:], following, letters)
        given += found
        at += takes_next
    return given, arguments[at:]


def has_option(given: Sequence[tuple[str, str | None]], letter: str | None, word: str) -> bool:
    """Whether an option is there: by its letter, in full, or abbreviated as getopt_long may."""
    return any(name == letter or (len(name) > 1 and word.startswith(name)) for name, _ in given)


def _long(
    text: str, following: str | None, valued: Collection[str], flags: Collection[str]
) -> tuple[list[tuple[str, str | None]], bool]:
    name, equals, value = text.partition("=")
    if equals:
        return [(name, value)], False
    if flags:
        has_value = not any(flag.startswith(name) for flag in flags)
    else:
        has_value = any(word.startswith(name) for word in valued)
    return [(name, following if has_value else None)], has_value


def _short(
    cluster: str, following: str | None, letters: str
) -> tuple[list[tuple[str, str | None]], bool]:
    found: list[tuple[str, str | None]] = []
    for at, letter in enumerate(cluster):
        rest = cluster[at + 1 :]
        behind = letters.partition(letter)[2] if letter != ":" else ""
        if behind.startswith("::"):
            return [*found, (letter, rest or None)], False
        if behind.startswith(":"):
            return [*found, (letter, rest or following)], not rest
        found.append((letter, None))
    return found, False
