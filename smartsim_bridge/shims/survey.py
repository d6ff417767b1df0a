"""What the head has of what shims stand in for: asked once, in one command.

Tells which scheduler commands exist there, by the server's own PATH, and whether the head
sees the files of this host.  Pure: makes the question and reads the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Survey", "question", "read_answer"]

# A folder of shims that the head's PATH names as well, as a shared home brings about, must not
# be taken for the scheduler: what is in it would lead back here.
_SCRIPT = r"""
token=$1 marker=$2; shift 2
path= IFS=:; set -f
for dir in $PATH; do [ -e "$dir/$marker" ] || path=$path${path:+:}$dir; done
PATH=$path
for name do
    where=$(command -v "$name" 2>/dev/null) || continue
    case $where in /*) printf "command %s %s\n" "$name" "$where" ;; esac
done
printf "path %s\n" "$path"
[ ! -r "$token" ] || { read -r said < "$token"; printf "token %s\n" "$said"; }
"""


@dataclass(frozen=True)
class Survey:
    """`programs`: where the head has each command; `path`: its PATH less folders of shims."""

    programs: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    files_are_shared: bool = False


def question(commands: Iterable[str], token_file: str, marker: str) -> list[str]:
    """The command to run on the head; `marker` is the file that tells a folder of shims."""
    return ["/bin/sh", "-c", _SCRIPT, "sh", token_file, marker, *sorted(commands)]


def read_answer(answer: str, token: str) -> Survey:
    """What it printed.  `token` is what we wrote into the file that the head was to read."""
    programs: dict[str, str] = {}
    path, said = "", ""
    for line in answer.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "command":
            name, _, where = rest.partition(" ")
            programs[name] = where
        elif kind == "path":
            path = rest
        elif kind == "token":
            said = rest
    return Survey(programs, path, bool(token) and said == token)
