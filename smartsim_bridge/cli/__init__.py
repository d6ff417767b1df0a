"""The command line: smartsim-bridge start | run | shell | ps | attach | status | stop | ...

Each acts on one head, `--addr`.  Exit status 255 says that the bridge failed, with the
error and its advice on stderr; every other one is the command's own.  A face: no rule of
its own beyond the words on the screen.

    shell     a program of this host, with shims on its PATH
    shims     the same installed for good, and the agent behind them
    way       the options that tell the way to a head, and the bridge they make
    commands  run attach ps           head   start stop status logs doctor
    transfers put get sync
    voice     what is said to the person     statuses  how we end
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import CommandServerError
from .commands import add_attach, add_ps, add_run
from .head import add_doctor, add_logs, add_start, add_status, add_stop
from .shell import add_shell
from .shims import add_shims
from .statuses import INTERRUPTED, OURS
from .transfers import add_get, add_put, add_sync
from .voice import say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; where a signal ended the command, this process ends by it as well."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        # It has options of its own, which only it should have to load.
        from ..demo.show import main as demo

        return demo(words[1:])
    options = _parser().parse_args(words)
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        status = act(options)
    except CommandServerError as failed:
        say(str(failed))
        return OURS
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if status >= 0 else _end_like(status)


def _end_like(returncode: int) -> int:
    from ..signals import end_like

    return end_like(returncode)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smartsim-bridge", description="Runs commands on a cluster's head node."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (
        *(add_start, add_run, add_shell, add_shims, add_ps, add_attach),
        *(add_put, add_get, add_sync),
        *(add_status, add_stop, add_logs, add_doctor),
    ):
        add(verbs)
    verbs.add_parser("demo", help="the main job on a head node brought along, or yours")
    return parser
