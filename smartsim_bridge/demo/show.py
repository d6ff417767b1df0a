"""The demo: the main job from the first connection to the last trace, as it happens.

Without a target it brings its own head node and promises to leave nothing; with one it
does the same on the user's own head, and ends the server only where it started it.  Uses
the public API only, as a user would.  Called by the command line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from shutil import which

from smartsim_bridge import Bridge, __version__, init_command_server, shutdown_command_server

from ..deadline import Deadline
from ..errors import CommandServerError
from .acts import act_at_once, act_failures, act_speed, act_status, act_streaming
from .embedded import EmbeddedHeadNode
from .screen import Screen
from .traces import Footprint

__all__ = ["main", "run_demo"]

SETTINGS_PREFIX = "SMARTSIM_BRIDGE_"
CONFIG_VARIABLE = SETTINGS_PREFIX + "CONFIG"
GONE_SECONDS = 30.0  # for a server that was told to end
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True)
class Reach:
    """How to get to a head, in the words of init_command_server; None leaves its default."""

    addr: str
    user: str | None = None
    ssh_port: int | None = None
    ssh_config: str | None = None
    identity: str | None = None
    jump: str | None = None
    host_keys: str | None = None
    python: str | None = None
    prelude: str | None = None
    transport: str | None = None
    timeout: float | None = None


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """The options of `smartsim-bridge demo`: one for each field of `Reach`."""
    parser.add_argument("--addr", metavar="TARGET", help="your head; default: one is brought along")
    parser.add_argument("--user", help="name to log in with")
    parser.add_argument("--ssh-port", type=int, metavar="PORT")
    parser.add_argument("--ssh-config", metavar="FILE", help="instead of ~/.ssh/config")
    parser.add_argument("--identity", metavar="FILE", help="private key")
    parser.add_argument("--jump", metavar="HOST", help="jump host, as in ssh -J")
    parser.add_argument("--host-keys", help='strict, or "accept-new"')
    parser.add_argument("--python", metavar="PATH", help="the head's interpreter, 3.9 or newer")
    parser.add_argument(
        "--prelude", metavar="LINES", help='shell lines first: "module load python"'
    )
    parser.add_argument("--transport", help="auto, direct, tunnel or stdio")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for the whole connect")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; `argv` as after `smartsim-bridge demo`."""
    parser = argparse.ArgumentParser(prog="smartsim-bridge demo")
    add_demo_options(parser)
    return run_demo(parser.parse_args(argv))


def run_demo(options: argparse.Namespace) -> int:
    """0, or 1 after a message on stderr that says what failed and what to try."""
    screen = Screen(sys.stdout)
    try:
        if options.addr is None:
            _show_embedded(screen, options.transport, options.timeout)
        else:
            _show_own(screen, Reach(**vars(options)))
    except CommandServerError as failed:
        print(f"\ndemo: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _show_own(screen: Screen, reach: Reach) -> None:
    screen.heading(f"smartsim_bridge {__version__}: the main job on {reach.addr}")
    with _bridge(screen, reach) as bridge:
        _acts(screen, bridge, None)
    screen.say("Kept there for the next time: the server program and its log.")


def _show_embedded(screen: Screen, transport: str | None, timeout: float | None) -> None:
    screen.heading(f"smartsim_bridge {__version__}: the main job, on a head node brought along")
    footprint = Footprint()
    with _without_own_settings(), EmbeddedHeadNode() as head:
        screen.say(f"An SSH server listens on 127.0.0.1, port {head.ssh_port}, for this run only:")
        screen.say("keys, known_hosts and home are new; its alias in ssh_config is " + head.addr)
        reach = Reach(
            head.addr, ssh_config=str(head.ssh_config), transport=transport, timeout=timeout
        )
        with _bridge(screen, reach, head.shorten) as bridge:
            server = bridge.status().server_pid
            for pid in (server, os.getpid()):
                footprint.note(pid)
            _acts(screen, bridge, _fresh_login(head))
        _show_gone(screen, server)
    _show_nothing_left(screen, head, footprint)


@contextmanager
def _without_own_settings() -> Iterator[None]:
    """The user's settings are for the user's heads: a jump host there would break this one."""
    theirs = {name: text for name, text in os.environ.items() if name.startswith(SETTINGS_PREFIX)}
    for name in theirs:
        del os.environ[name]
    os.environ[CONFIG_VARIABLE] = os.devnull
    try:
        yield
    finally:
        del os.environ[CONFIG_VARIABLE]
        os.environ.update(theirs)


@contextmanager
def _bridge(screen: Screen, reach: Reach, shorten: Callable[[str], str] = str) -> Iterator[Bridge]:
    """The bridge, and its end: a server that ran before us keeps running."""
    screen.heading(f'init_command_server(addr="{reach.addr}", autostart=True)')
    began = time.monotonic()
    bridge = init_command_server(
        autostart=True,
        on_stage=lambda stage: screen.stage(replace(stage, detail=shorten(stage.detail))),
        **vars(reach),
    )
    try:
        screen.show("in all", f"{time.monotonic() - began:7.3f} s", good=True)
        yield bridge
    except BaseException:
        with suppress(CommandServerError):  # what failed first is what there is to say
            _end(screen, bridge)
        raise
    _end(screen, bridge)


def _end(screen: Screen, bridge: Bridge) -> None:
    if bridge.status().started:
        screen.heading("shutdown_command_server()")
        shutdown_command_server()
    else:
        screen.heading("bridge.close()")
        screen.say("The server ran before this demo, and keeps running.")
        bridge.close()


def _acts(screen: Screen, bridge: Bridge, log_in: Callable[[], object] | None) -> None:
    act_status(bridge, screen)
    act_at_once(bridge, screen)
    act_streaming(bridge, screen)
    act_failures(bridge, screen)
    act_speed(bridge, screen, log_in)


def _fresh_login(head: EmbeddedHeadNode) -> Callable[[], object] | None:
    """One command through a login of its own, where this machine has ssh."""
    if which("ssh") is None:
        return None
    command = ["ssh", "-F", str(head.ssh_config), "-o", "BatchMode=yes", head.addr, "true"]
    return lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _show_gone(screen: Screen, pid: int) -> None:
    """The head is this machine, so its processes can be looked at."""
    gone = _wait_gone(pid, Deadline(GONE_SECONDS))
    screen.show(f"server {pid}", "gone" if gone else "still there", good=gone)
    if not gone:
        raise CommandServerError(
            f"The server was told to end, and pid {pid} is still there", step="shutdown"
        )


def _wait_gone(pid: int, deadline: Deadline) -> bool:
    never = threading.Event()
    while not deadline.is_over:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        never.wait(0.01)  # no portable way to wait for the process of somebody else
    return False


def _show_nothing_left(screen: Screen, head: EmbeddedHeadNode, footprint: Footprint) -> None:
    files = footprint.left()
    if head.directory.exists():
        files.append(str(head.directory))
    screen.show("processes", ", ".join(head.left) or "none left", good=not head.left)
    screen.show("files", ", ".join(files) or "none left", good=not files)
    if head.left or files:
        raise CommandServerError("The demo left something behind", step="shutdown")
