"""A head in good order, as the doctor's scripts would tell it; tests change one thing each."""

from __future__ import annotations

from typing import Any

from smartsim_bridge.bootstrap.facts import Facts, PythonFound
from smartsim_bridge.doctor.answers import Answers, PlaceFound, Sacct

__all__ = ["NODE", "PYTHON", "STATE", "answers", "facts"]

PYTHON = PythonFound("/usr/bin/python3", (3, 11, 2), zmq="27.1.0")
STATE = PlaceFound("/home/me/state", "/home/me", free_kib=1 << 20, kind="nfs", executes=True)
NODE = PlaceFound(
    "/tmp/smartsim-bridge-1000",
    "/tmp",
    free_kib=1 << 20,
    kind="tmpfs",
    executes=True,
    locks=True,
)


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "host": "login1",
        "boot_id": "b",
        "uid": 1000,
        "user": "me",
        "home": "/home/me",
        "state_dir": STATE.path,
        "state_writable": True,
        "pythons": (PYTHON,),
    }
    return Facts(**{**values, **changes})


def answers(**changes: Any) -> Answers:
    values: dict[str, Any] = {
        "is_whole": True,
        "shell": "/bin/bash",
        "places": (STATE, NODE),
        "programs": frozenset(("sbatch", "squeue", "scancel")),
        "sacct": Sacct(0, "", 3, 7),
        "has_logind": True,
    }
    return Answers(**{**values, **changes})
