"""init_command_server and shutdown_command_server: this process's bridge.

The last bridge made here is the current one, which `remote` and `shutdown_command_server`
mean when they are given none.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable, Iterable

from .client.blocking import Bridge
from .client.portal import leave_portal
from .errors import CommandServerError, NoServer
from .settings import Settings
from .shims.opening import open_shims
from .stages import StageListener

__all__ = ["current_bridge", "init_command_server", "shutdown_command_server"]

_lock = threading.Lock()
_current: Bridge | None = None
_bridges: weakref.WeakSet[Bridge] = weakref.WeakSet()


def init_command_server(
    addr: str | None = None,
    port: int | None = None,
    *,
    autostart: bool | None = None,
    transport: str | None = None,
    user: str | None = None,
    ssh_port: int | None = None,
    ssh_config: str | None = None,
    identity: str | None = None,
    jump: str | None = None,
    ssh: str | None = None,
    ask: Callable[[str, bool], str] | None = None,
    host_keys: str | None = None,
    python: str | None = None,
    prelude: str | None = None,
    provision: bool | None = None,
    poll_cache: float | None = None,
    shims: bool | None = None,
    keep_env: Iterable[str] | None = None,
    timeout: float | None = None,
    reconnect: float | None = None,
    on_stage: StageListener | None = None,
) -> Bridge:
    """Connects to the command server of the head `addr`; starts it there with `autostart`.

    addr        host, user@host:port, or an alias of ssh_config; default "127.0.0.1"
    port        the server's TCP port; None: whatever its beacon says
    transport   "auto", or one rung: "local", "direct", "tunnel", "stdio"
    user, ssh_port, ssh_config, identity, jump    override ssh_config
    ssh         "paramiko", "openssh" (the system's ssh), "master" (only over a ControlMaster
                of yours that is live), or "auto": whichever can do what ssh_config asks
    ask         ask(prompt, secret) -> str answers passwords, one-time codes and unknown
                host keys; None: the terminal, or the notebook cell
    host_keys   "strict", or "accept-new": unknown keys are appended to known_hosts
    python      the head's interpreter (3.9 or newer); None: search for one
    prelude     shell lines to run first on the head: "module load python"
    provision   where the head's Python has no pyzmq, put one beside the server
    poll_cache  seconds that a server which this call starts may answer squeue and the like
                from what an equal one said, if nothing was run since; default 0, never
    shims       put stand-ins for the head's scheduler commands first on this process's PATH,
                until the bridge is closed: subprocess.run(["squeue"]) runs on the head
    keep_env    variables of this process, names or patterns, that go along with every
                command although they belong to an enclosing job: ("SLURM_*",)
    timeout     seconds for the whole connect; answering a prompt does not count; default 30
    reconnect   seconds that a lost link is sought before calls that wait raise LinkLost;
                0: they are told at once, and the next call tries again; default 900
    on_stage    called with a `Stage` as each step ends

    What is left out comes from the environment (SMARTSIM_BRIDGE_TIMEOUT ...), then from
    the configuration file, then from the default.  Raises a CommandServerError, whose class
    says what failed; then nothing stays open here.
    """
    global _current
    settings = Settings.gather(
        addr=addr,
        port=port,
        autostart=autostart,
        transport=transport,
        user=user,
        ssh_port=ssh_port,
        ssh_config=ssh_config,
        identity=identity,
        jump=jump,
        ssh=ssh,
        ask=ask,
        host_keys=host_keys,
        python=python,
        prelude=prelude,
        provision=provision,
        poll_cache=poll_cache,
        shims=shims,
        keep_env=keep_env,
        timeout=timeout,
        reconnect=reconnect,
        on_stage=on_stage,
    )
    bridge = Bridge.from_settings(settings)
    if settings.shims:
        try:
            open_shims(bridge, settings)
        except BaseException:
            bridge.close()
            raise
    with _lock:
        _current = bridge
        _bridges.add(bridge)
        _go_before_paramiko()
    return bridge


def shutdown_command_server(bridge: Bridge | None = None) -> None:
    """Ends the server of `bridge` (default: the current one), its commands, and the bridge.

    Raises NoServer where there is no bridge, LinkLost where the server cannot be told.
    """
    global _current
    with _lock:
        chosen = bridge or _current
        if chosen is _current:
            _current = None
    if chosen is None:
        raise NoServer(
            "There is no bridge in this process",
            advice="Call init_command_server() first, or use `smartsim-bridge stop`.",
        )
    chosen.shutdown()


def current_bridge() -> Bridge:
    """The bridge made last.  Raises NoServer where there is none."""
    if _current is None:
        raise NoServer(
            "There is no bridge in this process", advice="Call init_command_server() first."
        )
    return _current


def _go_before_paramiko() -> None:
    """Has it loaded, it ends every connection at the end of the program: nobody would be told.

    What was registered last runs first.  Elsewhere the goodbye stays behind what the program
    registered itself, which may still want the bridge.
    """
    if "paramiko" in sys.modules:
        atexit.unregister(_say_goodbye)
        atexit.register(_say_goodbye)


@atexit.register
def _say_goodbye() -> None:
    """A client that ends says so; the server need not wait for its heartbeat to stop.

    Nobody here is told: a daemon thread that still waits for a command would raise, and
    print its traceback into an interpreter that is being taken down, which aborts it.
    """
    leave_portal()
    for bridge in list(_bridges):
        try:
            bridge.leave()
        except (CommandServerError, RuntimeError):
            pass  # whoever cannot be told finds out
