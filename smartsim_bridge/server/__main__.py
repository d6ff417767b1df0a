"""The far half's command line: `serve`, `check` before it takes over, `unpack` for a pyzmq.

Run by the bootstrap through SSH, or by a person through scripts/start_cmd_server.py.  The
only place of the far half that reads the environment and prints.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Optional

from .. import __version__
from ..errors import CommandServerError, ServerAlreadyRuns
from ..protocol.beacon import Beacon, Credentials, found_line, ready_line
from .detach import detached
from .handover import read
from .logbook import open_logbook
from .manners import take_back_seat
from .options import add_serve_options, options_of
from .places import choose_places
from .serve import Server
from .site import is_safe_site, unpack, use_site
from .succession import ENDING, answer_check

__all__ = ["main"]

Say = Callable[[str], None]
Tell = Callable[[Beacon, Optional[Credentials]], None]
OTHER_STARTS_SECONDS = 15.0  # how long a second starter waits for the first to be ready


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with one line on stderr saying what failed."""
    arguments = _parser().parse_args(argv)
    if arguments.what == "unpack":
        return _unpack(arguments)
    if is_safe_site(arguments.site):  # what others could change counts as not there
        use_site(arguments.site)
    if arguments.what == "check":
        print(answer_check(__version__))
        return 0
    if arguments.resume is not None:
        return _serve_on(arguments.resume, arguments.site)
    if arguments.detach:
        # Absolute before the background process leaves the directory it was started in.
        arguments.state_dir = arguments.state_dir and os.path.abspath(arguments.state_dir)
        return detached(lambda say: _serve_detached(arguments, say))
    return _serve_foreground(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="start_cmd_server", description="smartsim_bridge's command server."
    )
    parser.add_argument("--version", action="version", version=__version__)
    what = parser.add_subparsers(dest="what", required=True)
    serve = what.add_parser("serve", help="run commands for this user's clients")
    add_serve_options(serve)
    serve.add_argument("--detach", action="store_true", help="run in the background")
    serve.add_argument("--nonce", default="", help="marks the ready line")
    serve.add_argument(
        "--apart-from", action="append", metavar="HEAD", help="whose server is out of reach"
    )
    serve.add_argument(
        "--instead-of", default="", metavar="DIR", help="the state directory that takes nothing"
    )
    # What a server says to the program that it becomes; of no use to anybody else.
    serve.add_argument("--resume", type=int, metavar="DESCRIPTOR", help=argparse.SUPPRESS)
    check = what.add_parser("check", help="say whether this version can take over from a server")
    for one in (serve, check):
        one.add_argument("--site", default="", metavar="DIR", help="import pyzmq from there")
    _add_unpack(what.add_parser("unpack", help="take a wheel of pyzmq from stdin, in base64"))
    return parser


def _add_unpack(unpack: argparse.ArgumentParser) -> None:
    unpack.add_argument("--nonce", default="", help="marks the answer")
    unpack.add_argument("--name", required=True, help="of the directory that it makes")
    unpack.add_argument("--size", required=True, type=int, metavar="BYTES")
    unpack.add_argument("--digest", required=True, help="SHA-256")
    unpack.add_argument("directory", nargs="+", help="state directories, the best one first")


def _unpack(arguments: argparse.Namespace) -> int:
    """Answers like bootstrap/receive.py: STORED and the path, or REFUSED and why."""
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # not before the draft is removed
    try:
        path = unpack(
            arguments.name,
            arguments.size,
            arguments.digest,
            arguments.directory,
            sys.stdin.buffer.read(),
        )
    except (OSError, ValueError) as refused:
        print(f"\n{arguments.nonce} REFUSED {refused}")
        return 1
    print(f"\n{arguments.nonce} STORED {path}")
    return 0


def _serve_foreground(arguments: argparse.Namespace) -> int:
    try:
        server = _make(arguments)
        open_logbook(server.log_path)
        asyncio.run(_run(server, lambda beacon, _: print(_greeting(beacon), flush=True)))
    except CommandServerError as fault:
        sys.stderr.write(f"smartsim-bridge: {fault}\n")
        return 1
    return 0


def _serve_detached(arguments: argparse.Namespace, say: Say) -> int:
    def ready(beacon: Beacon, credentials: Credentials | None) -> None:
        say("+" + ready_line(arguments.nonce, beacon, credentials) + "\n")

    def found(beacon: Beacon, credentials: Credentials | None) -> None:
        lines = (found_line(arguments.nonce), ready_line(arguments.nonce, beacon, credentials))
        say("+" + "".join(f"{line}\n" for line in lines))

    try:
        server = _make(arguments)
        open_logbook(server.log_path)
        _run_or_find(server, ready, found)
    except CommandServerError as fault:
        say(f"-smartsim-bridge: {fault}\n")
        return 1
    return 0


def _serve_on(descriptor: int, site: str) -> int:
    """Goes on where the program has stopped that this process was before."""
    server = Server.successor(read(descriptor), __version__, os.environ, site)
    open_logbook(server.log_path)
    try:
        asyncio.run(_run(server, lambda beacon, _: None))
    except BaseException:
        logging.getLogger(__name__).exception("the server failed after it had taken over")
        raise
    return 0


def _make(arguments: argparse.Namespace) -> Server:
    places = choose_places(os.environ, arguments.state_dir)
    options = options_of(arguments, __version__)
    take_back_seat(options.nice)  # here: libzmq's threads inherit it, and so must come later
    return Server(options, places, os.environ)


def _run_or_find(server: Server, ready: Tell, found: Tell) -> None:
    """Becomes the server, or finds the one that a racing starter has become."""
    end = time.monotonic() + OTHER_STARTS_SECONDS
    while True:
        try:
            asyncio.run(_run(server, ready))
            return
        except ServerAlreadyRuns:
            existing = server.existing()
            if existing is not None:
                found(*existing)
                return
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


async def _run(server: Server, ready: Tell) -> None:
    beacon = await server.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop, 5.0, signal.Signals(number).name)
    # Taken and dropped: had we it ignored, every command would inherit that.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    # Whoever took over a server was not to be interrupted before it could end it well.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    server.go_on()
    ready(beacon, server.credentials)
    await server.wait()


def _greeting(beacon: Beacon) -> str:
    port = beacon.ports[0] if beacon.ports else None
    lines = [f"smartsim_bridge {beacon.version} serves on {beacon.host} as pid {beacon.pid}"]
    lines += [f"  listening on {endpoint}" for endpoint in (*beacon.endpoints, beacon.socket)]
    if beacon.why_no_zmq:
        lines.append(f"  no TCP: {beacon.why_no_zmq}")
    how = f'init_command_server(addr="{beacon.host}"' + (f", port={port})" if port else ")")
    lines += [f"  connect with {how}", "  stop it with Ctrl-C, or smartsim-bridge stop"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
