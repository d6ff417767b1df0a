"""shims: stand-ins that are installed for good, and the agent behind them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .interactive import path_line
from .statuses import WRONG_LINE
from .voice import say
from .way import add, keywords

if TYPE_CHECKING:
    from ..agent.installation import Installation

__all__ = ["add_shims"]

MINUTE = 60.0


def add_shims(verbs: Any) -> None:
    """`shims`, among the verbs."""
    shims = add(verbs, "shims", _shims, "the head's sbatch, squeue ... installed here for good")
    shims.add_argument(
        "action",
        choices=("install", *_ACTIONS),
        metavar="ACTION",
        help="install, remove or list them; start or stop the agent that serves them here",
    )
    shims.add_argument("--dir", metavar="DIRECTORY", help="instead of the usual one in the home")
    shims.add_argument(
        "--idle", type=_minutes, metavar="MINUTES", help="install: the agent's; default 30"
    )


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of minutes")
    return number


def _shims(options: argparse.Namespace) -> int:
    from ..agent.installation import Installation, default_folder

    folder = Path(options.dir).expanduser().absolute() if options.dir else default_folder()
    if options.action == "install":
        return _install(options, folder)
    if options.addr or options.idle is not None:
        say(f"shims {options.action}: --addr and --idle are for `shims install`")
        return WRONG_LINE
    return _ACTIONS[options.action](Installation.read(folder))


def _install(options: argparse.Namespace, folder: Path) -> int:
    from ..agent.installation import IDLE_SECONDS
    from ..agent.installing import install
    from ..settings import Settings

    wanted = keywords(options)
    on_stage = wanted.pop("on_stage")
    idle = IDLE_SECONDS if options.idle is None else options.idle * MINUTE
    installation = install(folder, Settings.spoken(**wanted), idle, on_stage=on_stage)
    _write(
        f"shims in {folder}, for {installation.target}: {' '.join(installation.commands)}",
        "This line puts them on your PATH; for good, in the start-up file of your shell:",
        f"    {path_line(folder, os.environ.get('SHELL', ''))}",
    )
    return 0


def _remove(installation: Installation) -> int:
    installation.remove()
    _write(f"removed {installation.folder}; take it off your PATH as well")
    return 0


def _list(installation: Installation) -> int:
    _write(
        f"folder    {installation.folder}",
        f"target    {installation.target}",
        f"commands  {' '.join(installation.commands)}",
        f"agent     {_agent(installation)}",
        f"log       {installation.place.log}",
    )
    return 0


def _start(installation: Installation) -> int:
    from ..agent.starter import ensure_agent

    ensure_agent(installation)
    _write(f"agent     {_agent(installation)}")
    return 0


def _stop(installation: Installation) -> int:
    state = installation.place.end()
    _write("no agent runs on this host" if state is None else f"agent {state.pid} ended")
    return 0


_ACTIONS = {"remove": _remove, "list": _list, "start": _start, "stop": _stop}


def _agent(installation: Installation) -> str:
    state = installation.place.state()
    if state is None:
        return "none on this host; the first shim starts one"
    if not state.head:
        return f"pid {state.pid}, version {state.version}, on its way to {state.target}"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.since))
    link = f"linked to {state.head}" if state.is_linked else f"looks for {state.head}"
    return f"pid {state.pid}, version {state.version}, since {since}, {link}"


def _write(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
