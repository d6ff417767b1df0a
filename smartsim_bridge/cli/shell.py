"""shell: a program of this host that finds the head's scheduler on its PATH."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .commands import not_started
from .interactive import path_line, users_shell
from .voice import say
from .way import add, connect, program

__all__ = ["add_shell"]

NO_SHIMS = "name the head with --addr, or what brings them, --prelude 'module load slurm'"


def add_shell(verbs: Any) -> None:
    """`shell`, among the verbs."""
    shell = add(verbs, "shell", _shell, "run a program here whose sbatch, squeue ... run there")
    shell.add_argument("--no-autostart", action="store_true", help="only with a running server")
    # What `run` has; here it says what holds without it.
    shell.add_argument("--autostart", action="store_true", help="start the server; the default")
    shell.add_argument(
        "command", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENT...; none: your shell"
    )


def _shell(options: argparse.Namespace) -> int:
    from ..child import run_child

    with connect(options, autostart=not options.no_autostart, shims=True) as bridge:
        status = bridge.status()
        if not status.shims and not status.stages[-1].failed:  # else it has been said
            say(f"no scheduler's command is on the PATH of {status.server_host}: {NO_SHIMS}")
        try:
            words = program(options)
            if words:
                return run_child(words)
            with _own_shell(bool(status.shims)) as words:
                return run_child(words)
        except OSError as refused:
            return not_started(refused)


@contextmanager
def _own_shell(has_shims: bool) -> Iterator[list[str]]:
    """The user's, whose start-up files do not take the folder of the shims off PATH again."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    if not has_shims:
        yield [shell]
        return
    folder = Path(os.environ["PATH"].split(os.pathsep)[0])  # we have just put it there
    with users_shell(shell, folder, os.environ) as (words, more):
        os.environ.update(more)
        if not more and len(words) == 1 and sys.stdin.isatty():
            line = path_line(folder, shell)
            say(f"if your start-up files set PATH anew, squeue is not the head's until: {line}")
        yield words
