"""The names that SmartSim's first command server had, on top of a bridge.

Kept where the old meaning was right: `init_command_server(addr, port)` connects to a
server that somebody started by hand as the same user, and raises CommandServerError where
there is none.  Gone is what was wrong: nothing is pickled, and no port is open to all.
SMARTSIM_REMOTE holds an address, never a secret: a child process finds the server by it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .client.blocking import Bridge, Command
from .current import current_bridge, shutdown_command_server
from .current import init_command_server as _connect
from .errors import CommandServerError, InvalidSettings, NoServer
from .settings import DEFAULT_PORT

__all__ = [
    "CommandServerError",
    "execute_async_cmd",
    "execute_cmd",
    "init_command_server",
    "shutdown_command_server",
]

VARIABLE = "SMARTSIM_REMOTE"
CONNECT_SECONDS = 5.0  # for a server that is known to run; the old one waited for ever


def init_command_server(
    addr: str = "127.0.0.1", port: int | None = DEFAULT_PORT, **keywords: Any
) -> Bridge:
    """Connects to a running server; further keywords as in smartsim_bridge.init_command_server.

    Raises CommandServerError within 5 s (or `timeout`) where none answers.
    """
    keywords.setdefault("timeout", CONNECT_SECONDS)
    bridge = _connect(addr, port, **keywords)
    os.environ[VARIABLE] = addr if port is None else f"{addr}:{port}"
    return bridge


def execute_cmd(
    cmd_list: str | Sequence[str],
    shell: bool = False,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    proc_input: str | bytes | None = None,
    timeout: float | None = None,
) -> tuple[int, str, str]:
    """Runs a command on the head: (returncode, stdout, stderr).  Raises as `Bridge.run`."""
    done = _bridge().run(cmd_list, shell=shell, cwd=cwd, env=env, input=proc_input, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def execute_async_cmd(
    cmd_list: str | Sequence[str],
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    shell: bool = False,
) -> Command:
    """Starts a command on the head and returns it.  Raises as `Bridge.popen`."""
    return _bridge().popen(cmd_list, cwd=cwd, env=env, shell=shell)


def _bridge() -> Bridge:
    """This process's bridge, or one to the address in SMARTSIM_REMOTE."""
    try:
        return current_bridge()
    except NoServer:
        address = os.environ.get(VARIABLE, "")
        if not address:
            raise
    host, separator, port = address.rpartition(":")
    # Nobody here has asked for anything but this command: PATH is left alone.
    if not separator:
        return init_command_server(address, None, shims=False)
    if not port.isdigit():
        raise InvalidSettings(f"{VARIABLE}={address!r} is not HOST:PORT", step="settings")
    return init_command_server(host, int(port), shims=False)
