"""The command line: smartsim-bridge start | run | ps | attach | status | stop | logs | ...

Each acts on one head, `--addr`.  Exit status 255 says that the bridge failed, with the
error and its advice on stderr; every other one is the command's own.  A face: no rule of
its own beyond the words on the screen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import __version__
from .client.request import byte_offset
from .errors import CommandGone, CommandLost, CommandServerError, NoServer, VersionMismatch
from .stages import Stage

if TYPE_CHECKING:
    from .client.blocking import Bridge, Command

__all__ = ["main"]

OURS = 255  # as ssh has it: the way failed, not the command
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
INTERRUPTED = 130
REFUSED = 1

_CONNECTING = (
    ("--port", {"type": int, "help": "the server's TCP port; default: what its beacon says"}),
    ("--transport", {"help": "auto, local, direct, tunnel or stdio"}),
    ("--user", {"help": "name to log in with"}),
    ("--ssh-port", {"type": int, "metavar": "PORT"}),
    ("--ssh-config", {"metavar": "FILE", "help": "instead of ~/.ssh/config"}),
    ("--identity", {"metavar": "FILE", "help": "private key"}),
    ("--jump", {"metavar": "HOST", "help": "jump host, as in ssh -J"}),
    ("--ssh", {"metavar": "ENGINE", "help": "auto, paramiko, openssh, or master"}),
    ("--host-keys", {"help": 'strict, or "accept-new"'}),
    ("--python", {"metavar": "PATH", "help": "the head's interpreter, 3.9 or newer"}),
    ("--prelude", {"metavar": "LINES", "help": 'shell lines first: "module load python"'}),
    ("--provision", {"action": "store_const", "const": True, "help": "bring pyzmq along"}),
    ("--timeout", {"type": float, "metavar": "SECONDS", "help": "for the whole connect"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; where a signal ended the command, this process ends by it as well."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        # It has options of its own, which only it should have to load.
        from .demo.show import main as demo

        return demo(words[1:])
    options = _parser().parse_args(words)
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        status = act(options)
    except CommandServerError as failed:
        _say(str(failed))
        return OURS
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if status >= 0 else _end_like(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smartsim-bridge", description="Runs commands on a cluster's head node."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    start = _add(verbs, "start", _start, "start the server on the head, if none runs")
    start.add_argument("--replace", action="store_true", help="end one of another version first")
    start.add_argument("--force", action="store_true", help="... whatever it runs and is")
    run = _add(verbs, "run", _run, "run a command there, as if it ran here")
    run.add_argument("--no-autostart", action="store_true", help="only with a running server")
    run.add_argument("--cwd", metavar="DIRECTORY", help="working directory on the head")
    run.add_argument("--keep", action="store_true", help="it goes on when this end is gone")
    run.add_argument("--detach", action="store_true", help="leave it running, print its id")
    run.add_argument("command", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENT...")
    ps = _add(verbs, "ps", _ps, "list commands there: those that run, and of the last hour")
    ps.add_argument("--all", action="store_true", help="all that the server remembers")
    ps.add_argument("--json", action="store_true", help="for programs")
    attach = _add(verbs, "attach", _attach, "follow a command that runs there, or ran")
    attach.add_argument("command", metavar="ID", help="from `ps`, or the beginning of one")
    attach.add_argument(
        "--from",
        dest="begin",
        type=_offsets,
        default=(0, 0),
        metavar="OFFSET[,OFFSET]",
        help="skip so many bytes of stdout (and stderr)",
    )
    status = _add(verbs, "status", _status, "tell how the server is reached and how it is")
    status.add_argument("--json", action="store_true", help="for programs")
    _add(verbs, "stop", _stop, "end the server and its commands")
    logs = _add(verbs, "logs", _logs, "show the server's log, also of one that died")
    logs.add_argument("-n", "--lines", type=_count, default=100, help="default 100")
    doctor = _add(verbs, "doctor", _doctor, "look at every stage to a head, and say what is wrong")
    doctor.add_argument("target", nargs="?", metavar="TARGET", help="the same as --addr TARGET")
    doctor.add_argument("--json", action="store_true", help="for programs")
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


def _offsets(text: str) -> tuple[int, int]:
    stdout, _, stderr = text.partition(",")
    try:
        return byte_offset(int(stdout)), byte_offset(int(stderr or 0))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number of bytes") from None


# --- the way to the head


def _keywords(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **{name: getattr(options, name) for name in _names()},
        "on_stage": _show if options.verbose else None,
    }


def _names() -> list[str]:
    return ["addr", *(option[2:].replace("-", "_") for option, _ in _CONNECTING)]


def _connect(options: argparse.Namespace, *, autostart: bool = False) -> Bridge:
    # Imported late: --help and a mistyped option need no event loop.
    from .client.current import init_command_server

    keywords = _keywords(options)
    unprovided: list[str] = []

    def listen(stage: Stage) -> None:
        if stage.failed and stage.name == "provision":
            unprovided.append(stage.detail)

    if not options.verbose:
        keywords["on_stage"] = listen
    bridge = init_command_server(autostart=autostart, **keywords)
    for why in unprovided:  # the link holds, but is not the one that was wished for
        _say(f"pyzmq could not be brought along: {why}")
    return bridge


def _connect_to_end_it(options: argparse.Namespace, *, dismiss: bool) -> Bridge | None:
    """None where it has been ended already: it spoke another protocol."""
    from .client.blocking import Bridge
    from .client.talk import WishGranted
    from .settings import Settings

    settings = Settings.gather(autostart=False, **_keywords(options))
    try:
        return Bridge.from_settings(settings, dismiss=dismiss)
    except WishGranted as granted:
        sys.stdout.write(f"server of version {granted.version} stopped, its commands with it\n")
        return None


def _again(options: argparse.Namespace, command: str) -> str:
    """The command line that attaches to it."""
    from .listing_text import ID_DIGITS

    words = ["smartsim-bridge", "attach"]
    for name in _names():
        value, option = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is not None:
            words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, command[:ID_DIGITS]])


def _end_like(returncode: int) -> int:
    from .signals import end_like

    return end_like(returncode)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal was closed: there is nobody to tell
        sys.stderr.write(f"smartsim-bridge: {text}\n")
        sys.stderr.flush()


def _show(stage: Stage) -> None:
    failed = "  FAILED" if stage.failed else ""
    sys.stderr.write(f"{stage.seconds * 1000:8.1f} ms  {stage.name:13} {stage.detail}{failed}\n")


# --- commands


def _run(options: argparse.Namespace) -> int:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        _say("run: no command given; write: run -- PROGRAM ...")
        return 2
    with _connect(options, autostart=not options.no_autostart) as bridge:
        if options.detach:
            return _leave(bridge, words, options.cwd)
        # None: the server knows which programs outlive their client unasked.
        keep = True if options.keep else None
        try:
            command = bridge.popen(words, cwd=options.cwd, text=False, keep=keep)
        except OSError as refused:
            return _not_started(refused)
        return _follow(options, bridge, command, stays=options.keep)


def _attach(options: argparse.Namespace) -> int:
    stdout, stderr = options.begin
    with _connect(options) as bridge:
        try:
            command = bridge.attach(options.command, stdout=stdout, stderr=stderr, text=False)
        except OSError as refused:
            return _not_started(refused)
        # It has outlived a terminal before.
        return _follow(options, bridge, command, stays=True)


def _follow(options: argparse.Namespace, bridge: Bridge, command: Command, *, stays: bool) -> int:
    from .passthrough import QUIET_SECONDS, Passage

    quiet = 0.0 if options.verbose else QUIET_SECONDS
    come_back = f"come back to it with: {_again(options, command.id)}"
    try:
        returncode = Passage(bridge, command, _say, stays=stays, quiet=quiet).follow()
    except (CommandGone, CommandLost):
        raise
    except CommandServerError:
        if command.returncode is None:
            _say(f"the command may still run; {come_back}")
        raise
    if returncode is None:
        _say(f"the command was left running; {come_back}")
        return INTERRUPTED
    return returncode


def _leave(bridge: Bridge, words: Sequence[str], cwd: str | None) -> int:
    try:
        sys.stdout.write(f"{bridge.start(words, cwd=cwd)}\n")
    except OSError as refused:
        return _not_started(refused)
    return 0


def _not_started(refused: OSError) -> int:
    _say(f"{refused.filename}: {refused.strerror}")
    return NOT_FOUND if isinstance(refused, FileNotFoundError) else NOT_EXECUTABLE


def _ps(options: argparse.Namespace) -> int:
    import shutil

    from .listing_text import recent, table

    with _connect(options) as bridge:
        commands = bridge.commands()
    now = time.time()
    shown = commands if options.all else recent(commands, now)
    if options.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in shown], indent=2) + "\n")
    elif shown:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(table(shown, now, width))
    else:
        _say("no command runs there" + (f"; --all shows {len(commands)}" if commands else ""))
    return 0


# --- the server


def _start(options: argparse.Namespace) -> int:
    if options.replace and not _make_room(options):
        return REFUSED
    with _connect(options, autostart=True) as bridge:
        status = bridge.status()
    verb = "started" if status.started else "already runs"
    sys.stdout.write(
        f"server {status.version} {verb} on {status.server_host}, pid {status.server_pid}\n"
    )
    return 0


def _make_room(options: argparse.Namespace) -> bool:
    """Whether a new server may be started, or the one that runs is good enough."""
    from .replacement import make_room

    try:
        bridge = _connect_to_end_it(options, dismiss=options.force)
    except NoServer:
        return True
    except VersionMismatch as other:
        _say(f"{other.what}; what it runs cannot be told from here. --force ends it all")
        return False
    if bridge is None:
        return True
    with bridge:
        provision = bool(options.provision)
        return make_room(bridge, _say, force=options.force, provision=provision)


def _stop(options: argparse.Namespace) -> int:
    from .replacement import end_server

    try:
        bridge = _connect_to_end_it(options, dismiss=True)
    except NoServer as none:
        _say(f"nothing to stop: {none.what}")
        return 0
    if bridge is not None:
        with bridge:
            sys.stdout.write(f"{end_server(bridge, _say)}\n")
    return 0


def _status(options: argparse.Namespace) -> int:
    with _connect(options) as bridge:
        status = bridge.status()
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(status), indent=2) + "\n")
    else:
        sys.stdout.write(f"{status}\n")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from .client.headlog import head_log
    from .settings import Settings

    sys.stdout.write(head_log(Settings.gather(**_keywords(options)), options.lines))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import shutil

    from .doctor.examination import examine
    from .settings import Settings

    if options.target and options.addr not in (None, options.target):
        _say("doctor: one target at a time")
        return 2
    options.addr = options.target or options.addr
    report = examine(Settings.gather(**_keywords(options)))
    is_screen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_screen else 0
    sys.stdout.write(report.to_json() if options.json else report.to_text(width, colours=is_screen))
    return REFUSED if report.has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
