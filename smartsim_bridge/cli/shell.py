"""shell: a program of this host that finds the head's scheduler on its PATH."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .commands import not_started
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

    words = program(options) or [os.environ.get("SHELL") or "/bin/sh"]
    with connect(options, autostart=not options.no_autostart, shims=True) as bridge:
        status = bridge.status()
        if not status.shims and not status.stages[-1].failed:  # else it has been said
            say(f"no scheduler's command is on the PATH of {status.server_host}: {NO_SHIMS}")
        try:
            return run_child(words)
        except OSError as refused:
            return not_started(refused)
