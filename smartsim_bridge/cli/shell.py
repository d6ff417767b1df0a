"""shell: a program of this host that finds the head's scheduler on its PATH."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .commands import not_started
from .voice import say
from .way import add, connect, program

__all__ = ["add_shell"]


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
        if not bridge.status().shims:
            say("there are no stand-ins: the head has no scheduler's command on its PATH")
        try:
            return run_child(words)
        except OSError as refused:
            return not_started(refused)
