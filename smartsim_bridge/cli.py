"""The command line: smartsim-bridge start | run | status | stop | logs | demo.

Each acts on one head, `--addr`.  Exit status 255 says that the bridge failed, with the
error and its advice on stderr; every other one is the command's own.  A face: no rule of
its own beyond the words on the screen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__
from .errors import CommandServerError, NoServer
from .stages import Stage

__all__ = ["main"]

OURS = 255  # as ssh has it: the way failed, not the command
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
INTERRUPTED = 130

_CONNECTING = (
    ("--port", {"type": int, "help": "the server's TCP port; default: what its beacon says"}),
    ("--transport", {"help": "auto, local, direct, tunnel or stdio"}),
    ("--user", {"help": "name to log in with"}),
    ("--ssh-port", {"type": int, "metavar": "PORT"}),
    ("--ssh-config", {"metavar": "FILE", "help": "instead of ~/.ssh/config"}),
    ("--identity", {"metavar": "FILE", "help": "private key"}),
    ("--jump", {"metavar": "HOST", "help": "jump host, as in ssh -J"}),
    ("--host-keys", {"help": 'strict, or "accept-new"'}),
    ("--python", {"metavar": "PATH", "help": "the head's interpreter, 3.9 or newer"}),
    ("--prelude", {"metavar": "LINES", "help": 'shell lines first: "module load python"'}),
    ("--timeout", {"type": float, "metavar": "SECONDS", "help": "for the whole connect"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        # It has options of its own, which only it should have to load.
        from .demo.show import main as demo

        return demo(words[1:])
    options = _parser().parse_args(words)
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        return act(options)
    except CommandServerError as failed:
        sys.stderr.write(f"smartsim-bridge: {failed}\n")
        return OURS
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smartsim-bridge", description="Runs commands on a cluster's head node."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add(verbs, "start", _start, "start the server on the head, if none runs")
    run = _add(verbs, "run", _run, "run a command there, as if it ran here")
    run.add_argument("--no-autostart", action="store_true", help="only with a running server")
    run.add_argument("--cwd", metavar="DIRECTORY", help="working directory on the head")
    run.add_argument("command", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENT...")
    status = _add(verbs, "status", _status, "tell how the server is reached and how it is")
    status.add_argument("--json", action="store_true", help="for programs")
    _add(verbs, "stop", _stop, "end the server and its commands")
    logs = _add(verbs, "logs", _logs, "show the server's log, also of one that died")
    logs.add_argument("-n", "--lines", type=_count, default=100, help="default 100")
    verbs.add_parser("demo", help="the main job on a head node brought along, or yours")
    return parser


def _add(
    verbs: Any, name: str, act: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=summary)
    parser.add_argument("--addr", metavar="TARGET", help="host, user@host:port or ssh alias")
    for option, keywords in _CONNECTING:
        parser.add_argument(option, **keywords)
    parser.add_argument("-v", "--verbose", action="store_true", help="show each step")
    parser.set_defaults(act=act)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of lines")
    return number


def _keywords(options: argparse.Namespace) -> dict[str, Any]:
    names = ["addr", *(option[2:].replace("-", "_") for option, _ in _CONNECTING)]
    given = {name: getattr(options, name) for name in names}
    return {**given, "on_stage": _show if options.verbose else None}


def _connect(options: argparse.Namespace, *, autostart: bool = False) -> Any:
    # Imported late: --help and a mistyped option need no event loop.
    from .client.current import init_command_server

    return init_command_server(autostart=autostart, **_keywords(options))


def _show(stage: Stage) -> None:
    failed = "  FAILED" if stage.failed else ""
    sys.stderr.write(f"{stage.seconds * 1000:8.1f} ms  {stage.name:13} {stage.detail}{failed}\n")


def _start(options: argparse.Namespace) -> int:
    with _connect(options, autostart=True) as bridge:
        status = bridge.status()
    verb = "started" if status.started else "already runs"
    sys.stdout.write(
        f"server {status.version} {verb} on {status.server_host}, pid {status.server_pid}\n"
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    from .passthrough import pass_through

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        sys.stderr.write("smartsim-bridge: run: no command given; write: run -- PROGRAM ...\n")
        return 2
    with _connect(options, autostart=not options.no_autostart) as bridge:
        try:
            return pass_through(bridge, command, cwd=options.cwd)
        except OSError as refused:
            sys.stderr.write(f"smartsim-bridge: {refused.filename}: {refused.strerror}\n")
            return NOT_FOUND if isinstance(refused, FileNotFoundError) else NOT_EXECUTABLE


def _status(options: argparse.Namespace) -> int:
    with _connect(options) as bridge:
        status = bridge.status()
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(status), indent=2) + "\n")
    else:
        sys.stdout.write(f"{status}\n")
    return 0


def _stop(options: argparse.Namespace) -> int:
    try:
        bridge = _connect(options)
    except NoServer as none:
        sys.stderr.write(f"smartsim-bridge: nothing to stop: {none.what}\n")
        return 0
    status = bridge.status()
    bridge.shutdown()
    sys.stdout.write(f"server on {status.server_host}, pid {status.server_pid}, stopped\n")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from .client.headlog import head_log
    from .settings import Settings

    sys.stdout.write(head_log(Settings.gather(**_keywords(options)), options.lines))
    return 0
