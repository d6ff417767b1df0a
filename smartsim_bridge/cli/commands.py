"""run, attach and ps: commands on the head."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..client.request import byte_offset
from ..errors import CommandGone, CommandLost, CommandServerError
from .statuses import INTERRUPTED, NOT_EXECUTABLE, NOT_FOUND, WRONG_LINE
from .voice import say
from .way import add, again, connect, program

if TYPE_CHECKING:
    from ..client.blocking import Bridge, Command

__all__ = ["add_attach", "add_ps", "add_run", "not_started"]


def add_run(verbs: Any) -> None:
    """`run`, among the verbs."""
    run = add(verbs, "run", _run, "run a command there, as if it ran here")
    run.add_argument("--no-autostart", action="store_true", help="only with a running server")
    run.add_argument("--cwd", metavar="DIRECTORY", help="working directory on the head")
    run.add_argument("--keep", action="store_true", help="it goes on when this end is gone")
    run.add_argument("--detach", action="store_true", help="leave it running, print its id")
    run.add_argument("command", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENT...")


def add_ps(verbs: Any) -> None:
    """`ps`, among the verbs."""
    ps = add(verbs, "ps", _ps, "list commands there: those that run, and of the last hour")
    ps.add_argument("--all", action="store_true", help="all that the server remembers")
    ps.add_argument("--json", action="store_true", help="for programs")


def add_attach(verbs: Any) -> None:
    """`attach`, among the verbs."""
    attach = add(verbs, "attach", _attach, "follow a command that runs there, or ran")
    attach.add_argument("command", metavar="ID", help="from `ps`, or the beginning of one")
    attach.add_argument(
        "--from",
        dest="begin",
        type=_offsets,
        default=(0, 0),
        metavar="OFFSET[,OFFSET]",
        help="skip so many bytes of stdout (and stderr)",
    )


def _run(options: argparse.Namespace) -> int:
    words = program(options)
    if not words:
        say("run: no command given; write: run -- PROGRAM ...")
        return WRONG_LINE
    with connect(options, autostart=not options.no_autostart) as bridge:
        if options.detach:
            return _leave(bridge, words, options.cwd)
        # None: the server knows which programs outlive their client unasked.
        keep = True if options.keep else None
        try:
            command = bridge.popen(words, cwd=options.cwd, text=False, keep=keep)
        except OSError as refused:
            return not_started(refused)
        return _follow(options, bridge, command, stays=options.keep)


def _attach(options: argparse.Namespace) -> int:
    stdout, stderr = options.begin
    with connect(options) as bridge:
        try:
            command = bridge.attach(options.command, stdout=stdout, stderr=stderr, text=False)
        except OSError as refused:
            return not_started(refused)
        # It has outlived a terminal before.
        return _follow(options, bridge, command, stays=True)


def _follow(options: argparse.Namespace, bridge: Bridge, command: Command, *, stays: bool) -> int:
    from ..passthrough import QUIET_SECONDS, Passage

    quiet = 0.0 if options.verbose else QUIET_SECONDS
    come_back = f"come back to it with: {again(options, command.id)}"
    try:
        returncode = Passage(bridge, command, say, stays=stays, quiet=quiet).follow()
    except (CommandGone, CommandLost):
        raise
    except CommandServerError:
        if command.returncode is None:
            say(f"the command may still run; {come_back}")
        raise
    if returncode is None:
        say(f"the command was left running; {come_back}")
        return INTERRUPTED
    return returncode


def _leave(bridge: Bridge, words: Sequence[str], cwd: str | None) -> int:
    try:
        sys.stdout.write(f"{bridge.start(words, cwd=cwd)}\n")
    except OSError as refused:
        return not_started(refused)
    return 0


def not_started(refused: OSError) -> int:
    """Says so; the status that a shell would give."""
    say(f"{refused.filename}: {refused.strerror}")
    return NOT_FOUND if isinstance(refused, FileNotFoundError) else NOT_EXECUTABLE


def _ps(options: argparse.Namespace) -> int:
    import shutil

    from ..client.listing_text import recent, table

    with connect(options) as bridge:
        commands = bridge.commands()
    now = time.time()
    shown = commands if options.all else recent(commands, now)
    if options.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in shown], indent=2) + "\n")
    elif shown:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(table(shown, now, width))
    else:
        say("no command runs there" + (f"; --all shows {len(commands)}" if commands else ""))
    return 0


def _offsets(text: str) -> tuple[int, int]:
    stdout, _, stderr = text.partition(",")
    try:
        return byte_offset(int(stdout)), byte_offset(int(stderr or 0))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number of bytes") from None
