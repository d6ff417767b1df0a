"""start, stop, status, logs and doctor: the server on the head, and the way there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from ..errors import NoServer, VersionMismatch
from .statuses import REFUSED, WRONG_LINE
from .voice import say
from .way import add, connect, connect_to_end_it, keywords

__all__ = ["add_doctor", "add_logs", "add_start", "add_status", "add_stop"]


def add_start(verbs: Any) -> None:
    """`start`, among the verbs."""
    start = add(verbs, "start", _start, "start the server on the head, if none runs")
    start.add_argument("--replace", action="store_true", help="end one of another version first")
    start.add_argument("--force", action="store_true", help="... whatever it runs and is")


def add_status(verbs: Any) -> None:
    """`status`, among the verbs."""
    status = add(verbs, "status", _status, "tell how the server is reached and how it is")
    status.add_argument("--json", action="store_true", help="for programs")


def add_stop(verbs: Any) -> None:
    """`stop`, among the verbs."""
    add(verbs, "stop", _stop, "end the server and its commands")


def add_logs(verbs: Any) -> None:
    """`logs`, among the verbs."""
    logs = add(verbs, "logs", _logs, "show the server's log, also of one that died")
    logs.add_argument("-n", "--lines", type=_count, default=100, help="default 100")


def add_doctor(verbs: Any) -> None:
    """`doctor`, among the verbs."""
    doctor = add(verbs, "doctor", _doctor, "look at every stage to a head, and say what is wrong")
    doctor.add_argument("target", nargs="?", metavar="TARGET", help="the same as --addr TARGET")
    doctor.add_argument("--json", action="store_true", help="for programs")


def _start(options: argparse.Namespace) -> int:
    if options.replace and not _make_room(options):
        return REFUSED
    with connect(options, autostart=True) as bridge:
        status = bridge.status()
    verb = "started" if status.started else "already runs"
    sys.stdout.write(
        f"server {status.version} {verb} on {status.server_host}, pid {status.server_pid}\n"
    )
    return 0


def _make_room(options: argparse.Namespace) -> bool:
    """Whether a new server may be started, or the one that runs is good enough."""
    from ..replacement import make_room

    try:
        bridge = connect_to_end_it(options, dismiss=options.force)
    except NoServer:
        return True
    except VersionMismatch as other:
        say(f"{other.what}; what it runs cannot be told from here. --force ends it all")
        return False
    if bridge is None:
        return True
    with bridge:
        provision = bool(options.provision)
        return make_room(bridge, say, force=options.force, provision=provision)


def _stop(options: argparse.Namespace) -> int:
    from ..replacement import end_server

    try:
        bridge = connect_to_end_it(options, dismiss=True)
    except NoServer as none:
        say(f"nothing to stop: {none.what}")
        return 0
    if bridge is not None:
        with bridge:
            sys.stdout.write(f"{end_server(bridge, say)}\n")
    return 0


def _status(options: argparse.Namespace) -> int:
    with connect(options) as bridge:
        status = bridge.status()
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(status), indent=2) + "\n")
    else:
        sys.stdout.write(f"{status}\n")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from ..client.headlog import head_log
    from ..settings import Settings

    sys.stdout.write(head_log(Settings.gather(**keywords(options)), options.lines))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import shutil

    from ..doctor.examination import examine
    from ..settings import Settings

    if options.target and options.addr not in (None, options.target):
        say("doctor: one target at a time")
        return WRONG_LINE
    options.addr = options.target or options.addr
    report = examine(Settings.gather(**keywords(options)))
    is_screen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_screen else 0
    sys.stdout.write(report.to_json() if options.json else report.to_text(width, colours=is_screen))
    return REFUSED if report.has_failed else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of lines")
    return number
