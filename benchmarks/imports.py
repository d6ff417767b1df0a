"""Chapter: what an interpreter costs before anything is asked of it."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.util import find_spec

from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = ["measure_imports"]

LIMIT = 60.0
SECONDS = "seconds"

# What python is given, by the name in the report.
PROGRAMS = {
    "python -I -S -c pass": ["-I", "-S", "-c", "pass"],
    "python -c pass": ["-c", "pass"],
    "import smartsim_bridge": ["-c", "import smartsim_bridge"],
    "init_command_server": ["-c", "from smartsim_bridge import init_command_server"],
}
# Peers and libraries, of which any may be missing.
MODULES = ("zmq", "paramiko", "execnet", "mitogen.master")


def measure_imports(count: int, chance: random.Random) -> Contest:
    """Each in an interpreter of its own; its start is part of it."""
    programs = dict(PROGRAMS)
    missing = {}
    for module in MODULES:
        package = module.partition(".")[0]
        if find_spec(package) is None:
            missing[f"import {module}"] = f"{package} is not installed"
        else:
            programs[f"import {module}"] = ["-c", f"import {module}"]
    turns = {name: _turn_of(arguments) for name, arguments in programs.items()}
    for take in turns.values():
        take()  # so that all byte code is compiled and in the page cache
    return hold("imports", turns, count, chance, missing)


def _turn_of(arguments: list[str]) -> Turn:
    argv = [sys.executable, *arguments]

    def take() -> Parts:
        return {
            SECONDS: stopwatch(
                lambda: subprocess.run(argv, capture_output=True, check=True, timeout=LIMIT)
            )
        }

    return take
