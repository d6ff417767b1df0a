"""What one shim was called for, in the words of a bridge.

Decides which program of the head runs, with which arguments, in which directory and with
which variables.  Reads no socket and starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from .environment import goes_along
from .families import wants_input
from .survey import Survey
from .wire import Hello

__all__ = ["Errand", "errand"]


@dataclass(frozen=True)
class Errand:
    """`argv` begins with the head's own program; `caller` is the shim's whole environment.

    `directory` and the files that `argv` names are those of this host.
    """

    argv: tuple[str, ...]
    directory: str
    environment: dict[str, str]
    caller: dict[str, str]
    wants_input: bool
    input: bytes | None = None  # instead of the shim's


def errand(
    hello: Hello,
    survey: Survey,
    *,
    keep_env: tuple[str, ...],
    is_ours: Callable[[str], bool],
) -> Errand:
    """Raises FileNotFoundError for a command that the head does not have."""
    program = survey.programs.get(hello.command)
    if program is None:
        raise FileNotFoundError(2, "not found on the head", hello.command)
    caller = {os.fsdecode(name): os.fsdecode(value) for name, value in hello.environment.items()}
    argv = (program, *map(os.fsdecode, hello.arguments))
    going = goes_along(
        caller,
        files_are_shared=survey.files_are_shared,
        head_path=survey.path,
        keep=keep_env,
        is_ours=is_ours,
    )
    directory = os.fsdecode(hello.directory)
    return Errand(argv, directory, going, caller, wants_input(argv))
