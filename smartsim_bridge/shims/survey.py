"""What the head has of what shims stand in for, and how an older server is asked for it.

Tells which scheduler commands exist there, by the server's own PATH, and whether the head
sees the files of this host.  A server that knows Locate is asked by that message; any other
by a command, of which this makes the question and reads the answer.  Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["QUESTIONER", "Survey", "question", "read_answer"]

# A folder of shims that the head's PATH names as well, as a shared home brings about, must not
# be taken for the scheduler: what is in it would lead back here.
_SCRIPT = r"""
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
    """`programs`: where the head has each command; `path`: its PATH less folders of shims.

    `no_accounting` is the file by which its Slurm keeps no account of jobs.
    """

    programs: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    files_are_shared: bool = False
    no_accounting: str = ""


# What the question is put to, on stdin: `ps` and the logs show this line, and not a page.
QUESTIONER = ("/bin/sh", "-s", "smartsim-bridge", "shims")


def question(commands: Iterable[str], token_file: str, marker: str) -> str:
    """The question; `marker` is the file that tells a folder of shims."""
    names = " ".join(map(shlex.quote, sorted(commands)))
    values = f"token={shlex.quote(token_file)} marker={shlex.quote(marker)}\n"
    return f"{values}set -- {names}\n{_SCRIPT}"


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
