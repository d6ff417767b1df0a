"""The user's own shell, with a folder first on its PATH whatever its start-up files do.

They are read after PATH was inherited, and many set it anew.  So bash, zsh and fish are told
to put the folder there once more, after them; nothing of the user's is written to.  For other
shells there is no such way, and the line to type is said.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["path_line", "users_shell"]

_BASH = """\
[ -r ~/.bashrc ] && . ~/.bashrc
{line}
"""

# zsh looks for each of its files in $ZDOTDIR, which is the user's again after this one.
# What is to come after .zshrc waits for the first prompt.
_ZSH = """\
{dotdir}
[[ -r ${{ZDOTDIR:-$HOME}}/.zshenv ]] && source ${{ZDOTDIR:-$HOME}}/.zshenv
{line}
smartsim_bridge_path() {{
    {line}
    precmd_functions=(${{precmd_functions:#smartsim_bridge_path}})
    unfunction smartsim_bridge_path
}}
[[ -o interactive ]] && precmd_functions+=(smartsim_bridge_path)
"""


def path_line(folder: Path, shell: str) -> str:
    """What puts `folder` first on PATH, in the words of the `shell` whose path that is."""
    quoted = shlex.quote(str(folder))
    name = os.path.basename(shell)
    if name in ("csh", "tcsh"):
        return f'setenv PATH {quoted}:"$PATH"'
    if name == "fish":
        return f"set -gx PATH {quoted} $PATH"
    return f'export PATH={quoted}:"$PATH"'


@contextmanager
def users_shell(
    shell: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Its words, and what is to be added to its environment, while the block lasts."""
    name, line = os.path.basename(shell), path_line(folder, shell)
    if name == "fish":
        yield [shell, "--init-command", line], {}
    elif name in ("bash", "zsh"):
        with tempfile.TemporaryDirectory(prefix="smartsim-bridge-") as directory:
            file = Path(directory, ".bashrc" if name == "bash" else ".zshenv")
            file.write_text(_text(name, line, environment), "utf-8", "surrogateescape")
            if name == "bash":
                yield [shell, "--rcfile", str(file)], {}
            else:
                yield [shell], {"ZDOTDIR": directory}
    else:
        yield [shell], {}


def _text(name: str, line: str, environment: Mapping[str, str]) -> str:
    if name == "bash":
        return _BASH.format(line=line)
    theirs = environment.get("ZDOTDIR")
    dotdir = "unset ZDOTDIR" if theirs is None else f"export ZDOTDIR={shlex.quote(theirs)}"
    return _ZSH.format(line=line, dotdir=dotdir)
