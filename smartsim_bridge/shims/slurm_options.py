"""How sbatch, salloc and srun read their options: what of an argv is one, what comes after.

They use getopt_long with POSIX's rule that the first word ends the options: `-N2`, `-N 2`,
`-vvN2`, `--nodes=2`, `--nodes 2`, `--nod 2`, `--`.  Pure; used by `families`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Option", "has_option", "split_options"]

Option = tuple[str, "str | None"]  # without dashes; and its value

# As in getopt: ":" is a value, "::" one that can only be attached.  The three agree on nearly
# all letters.
_LETTERS = "A:a:b:B:C:c:D:d:Ee:F:G:Hg:hI::i:J:K::k::L:lM:m:N:n:Oo:P:p:Qq:r:S:sT:t:uVvWw:Xx:Z"

# Without a value that would stand in the next word.  Most have one, and new ones, too.
_FLAGS = (
    "bell contiguous disable-status exact exclusive external external-launcher get-user-env"
    " help hold ignore-pbs immediate interactive kill-command kill-on-bad-exit label"
    " multi-prog nice no-allocate no-bell no-kill no-requeue no-shell oom-kill-step"
    " overcommit overlap oversubscribe parsable preserve-env propagate pty quiet"
    " quit-on-interrupt reboot requeue resv-ports share spread-job stepmgr test-only"
    " unbuffered usage use-min-nodes verbose version wait wait-for-children whole x11"
)


def split_options(arguments: Sequence[str]) -> tuple[list[Option], Sequence[str]]:
    """The options in order, and the words behind them."""
    given: list[Option] = []
    at = 0
    while at < len(arguments):
        one = arguments[at]
        if one == "--":
            return given, arguments[at + 1 :]
        if one == "-" or not one.startswith("-"):
            break
        at += 1
        following = arguments[at] if at < len(arguments) else None
        read = _read_long if one.startswith("--") else _read_letters
        found, takes_next = read(one.lstrip("-"), following)
        given += found
        at += takes_next
    return given, arguments[at:]


def has_option(given: Sequence[Option], word: str) -> bool:
    """Whether a long option is there, in full or abbreviated as getopt_long may."""
    return any(len(name) > 1 and word.startswith(name) for name, _ in given)


def _read_long(text: str, following: str | None) -> tuple[list[Option], bool]:
    name, equals, value = text.partition("=")
    if equals:
        return [(name, value)], False
    if f" {name}" in f" {_FLAGS}":  # the beginning of one
        return [(name, None)], False
    return [(name, following)], True


def _read_letters(cluster: str, following: str | None) -> tuple[list[Option], bool]:
    found: list[Option] = []
    for at, letter in enumerate(cluster):
        rest, behind = cluster[at + 1 :], _LETTERS.partition(letter)[2]
        if behind.startswith("::"):
            return [*found, (letter, rest or None)], False
        if behind.startswith(":"):
            return [*found, (letter, rest or following)], not rest
        found.append((letter, None))
    return found, False
