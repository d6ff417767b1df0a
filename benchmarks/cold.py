"""Chapter: from nothing to the first command's result, each time in a fresh interpreter.

Before its turn each contestant finds the head as it needs it: without server and far half,
with the far half only, or with a server that runs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .head import BenchHead
from .peers import FreshSsh
from .rounds import Contest, Parts, Turn, hold, stopwatch

__all__ = [
    "DIRECT",
    "FAR_HALF",
    "FIRST",
    "IMPORTS",
    "NOTHING",
    "SSH",
    "WHOLE",
    "measure_cold",
]

IMPORTS = "imports"  # of all that the connect needs
FIRST = "first"  # connect and first command
WHOLE = "whole"  # from the start of the interpreter until its result is there

SSH = "fresh ssh"
NOTHING = "autostart, nothing there"
SEARCH = "autostart, nothing there, Python searched for"
FAR_HALF = "autostart, far half there"
DIRECT = "reconnect direct"
TUNNEL = "reconnect tunnel"

LIMIT = 60.0
ROOT = Path(__file__).parent.parent


def measure_cold(head: BenchHead, count: int, chance: random.Random) -> Contest:
    """`ssh host true` has a turn in the same rounds."""
    ssh = FreshSsh()
    ssh.open(head)
    ssh.call()
    start = head.keywords("tunnel", autostart=True)
    search = {name: value for name, value in start.items() if name != "python"}
    turns: dict[str, Turn] = {
        SSH: lambda: _as_parts(stopwatch(ssh.call)),
        NOTHING: _turn_of("bridge", start, head.forget),
        SEARCH: _turn_of("bridge", search, head.forget),
        FAR_HALF: _turn_of("bridge", start, lambda: _only_far_half(head)),
        DIRECT: _turn_of("bridge", head.keywords("direct"), head.ensure_server),
        TUNNEL: _turn_of("bridge", head.keywords("tunnel"), head.ensure_server),
    }
    missing = {}
    for way, keywords in _peers(head).items():
        if find_spec(way) is None:
            missing[way] = f"{way} is not installed"
        else:
            turns[way] = _turn_of(way, keywords, lambda: None)
    return hold("cold starts", turns, count, chance, missing)


def _as_parts(seconds: float) -> Parts:
    """ssh has no imports: connect and command are the whole."""
    return {FIRST: seconds, WHOLE: seconds}


def _peers(head: BenchHead) -> dict[str, dict[str, Any]]:
    config = str(head.sshd.ssh_config)
    return {
        "execnet": {"spec": f"ssh={head.alias}//ssh_config={config}//python={head.python}"},
        "mitogen": {
            "hostname": head.alias,
            "python_path": head.python,
            "ssh_args": ["-F", config],
            "connect_timeout": LIMIT,
        },
    }


def _only_far_half(head: BenchHead) -> None:
    head.ensure_server()
    head.end_server()


def _turn_of(way: str, keywords: Mapping[str, Any], prepare: Callable[[], None]) -> Turn:
    argv = [sys.executable, "-m", "benchmarks.newcomer", way, json.dumps(keywords)]

    def take() -> Parts:
        prepare()
        start = time.perf_counter()
        with subprocess.Popen(
            argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            line = child.stdout.readline()
            whole = time.perf_counter() - start
            _, noise = child.communicate(timeout=LIMIT)
        if not line.startswith("{"):
            raise RuntimeError(noise.strip().rpartition("\n")[2])
        parts: Parts = json.loads(line)
        return {**parts, WHOLE: whole}

    return take
