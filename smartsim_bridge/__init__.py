"""Runs scheduler commands on a cluster's head node, from wherever the script is.

    errors                    every exception                               far and near
    protocol  links  server   what is said, how it travels, who runs it     the far half
    files                     trees that are moved: both ends of it         far and near
    deadline  stages          shared by the steps of a connect              the near half
    settings  ssh  bootstrap  how a head is reached and gets a server
    client                    what the user holds
    shims                     stand-ins for the head's commands, and where they are served
    current                   init_command_server: this process's bridge, with its shims
    agent                     serves shims where no process has a bridge
    bars                      how far a transfer is, in a terminal or a notebook
    cli  jupyter  remote      faces: the command line, the notebook, the old names
    demo                      a head node in a box, and a tour
    doctor                    every stage to a head, looked at one by one

The far half is sent to the head as one file and needs nothing there but Python.  Names
are loaded when they are first used: importing the package loads neither paramiko nor zmq.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .bars import ProgressBar
    from .client.blocking import Bridge, Command
    from .client.bridge import AsyncBridge
    from .client.command import AsyncCommand
    from .client.status import BridgeStatus, Rung
    from .current import init_command_server, shutdown_command_server
    from .errors import CommandServerError
    from .files.report import FilesReport, Progress, SyncReport

_HOMES = {
    "AsyncBridge": "client.bridge",
    "AsyncCommand": "client.command",
    "Bridge": "client.blocking",
    "BridgeStatus": "client.status",
    "Command": "client.blocking",
    "CommandServerError": "errors",
    "FilesReport": "files.report",
    "Progress": "files.report",
    "ProgressBar": "bars",
    "Rung": "client.status",
    "SyncReport": "files.report",
    "init_command_server": "current",
    "load_ipython_extension": "jupyter",
    "shutdown_command_server": "current",
    "unload_ipython_extension": "jupyter",
}

__all__ = [
    "AsyncBridge",
    "AsyncCommand",
    "Bridge",
    "BridgeStatus",
    "Command",
    "CommandServerError",
    "FilesReport",
    "Progress",
    "ProgressBar",
    "Rung",
    "SyncReport",
    "__version__",
    "init_command_server",
    "shutdown_command_server",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
