"""How a server was asked to run: its options, and the command line that says them.

Every program that starts a server takes the same ones.  Knows no server.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..protocol.polls import MAX_POLL_CACHE
from .allowance import is_program_name
from .backlog import MAX_RATE, MAX_RUNNING
from .manners import DEFAULT_NICE, MOST_NICE
from .places import STATE_VARIABLE

__all__ = ["ServerOptions", "add_serve_options", "options_of"]

MAX_LINKS = 512  # each takes a task and some 20 KiB; a user has a few
IDLE_HOURS = 12.0  # without client or command, then the server ends


@dataclass(frozen=True)
class ServerOptions:
    """How a server was asked to run."""

    version: str
    addresses: tuple[str, ...] = ("127.0.0.1",)
    port: int = 0
    idle_seconds: float = IDLE_HOURS * 3600
    allow: tuple[str, ...] = ()  # programs; none named: all
    audit: bool = False
    max_commands: int = MAX_RUNNING
    max_clients: int = MAX_LINKS
    max_rate: float = MAX_RATE  # starts per second
    nice: int = DEFAULT_NICE
    poll_cache: float = 0.0  # seconds
    known_as: tuple[str, ...] = ()  # for the beacon, as are the next two
    apart_from: tuple[str, ...] = ()
    instead_of: str = ""
    site: str = ""  # where pyzmq is imported from, where the Python has none

    @classmethod
    def handed_over(cls, told: Mapping[str, Any], version: str, site: str) -> ServerOptions:
        """Those of a server that gives way, as JSON has them, to one of `version`.

        What this version does not know is passed over; of what the other did not, the default
        counts.
        """
        known: dict[str, Any] = {}
        for name in {one.name for one in fields(cls)} & set(told):
            value = told[name]
            known[name] = tuple(value) if isinstance(value, list) else value
        return cls(**{**known, "version": version, "site": site})


def options_of(arguments: argparse.Namespace, version: str) -> ServerOptions:
    """What the command line of `serve` says."""
    return ServerOptions(
        version,
        tuple(dict.fromkeys(arguments.addr or ["127.0.0.1"])),
        arguments.port,
        arguments.idle_exit * 3600,
        allow=tuple(dict.fromkeys(arguments.allow or ())),
        audit=arguments.audit,
        max_commands=arguments.max_commands,
        max_clients=arguments.max_clients,
        max_rate=arguments.max_rate,
        nice=arguments.nice,
        poll_cache=arguments.poll_cache,
        known_as=tuple(dict.fromkeys(arguments.known_as or ())),
        apart_from=tuple(arguments.apart_from or ()),
        instead_of=arguments.instead_of,
        site=arguments.site,
    )


def add_serve_options(parser: argparse.ArgumentParser, port: int = 0) -> None:
    """The options of a server, for every program that starts one."""
    parser.add_argument(
        "--addr",
        action="append",
        metavar="ADDRESS",
        help="address of this host to listen on (default 127.0.0.1); may be repeated",
    )
    parser.add_argument(
        "--port", type=_port, default=port, help=f"TCP port, 0: any free one (default {port})"
    )
    parser.add_argument(
        "--known-as",
        action="append",
        metavar="NAME",
        help="what clients call this host, such as a login alias; may be repeated",
    )
    parser.add_argument("--state-dir", default="", help=f"default: ${STATE_VARIABLE}, or the home")
    parser.add_argument(
        "--idle-exit",
        type=_hours,
        default=IDLE_HOURS,
        metavar="HOURS",
        help="end after so long without client and command (default %(default)g)",
    )
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """What somebody who looks after the host may want bounded, or recorded."""
    limits = parser.add_argument_group("limits, and a record")
    limits.add_argument(
        "--allow",
        action="append",
        type=_program,
        metavar="NAME",
        help="run this program and no other, may be repeated; no boundary: sbatch runs any script",
    )
    limits.add_argument(
        "--audit", action="store_true", help="record who ran what in logs/HOST.audit"
    )
    for option, default, what in (
        ("--max-commands", MAX_RUNNING, "commands that run at once; more wait"),
        ("--max-clients", MAX_LINKS, "clients at once; more are refused"),
    ):
        limits.add_argument(
            option, type=_count, default=default, metavar="N", help=f"{what} (default {default})"
        )
    limits.add_argument(
        "--max-rate",
        type=_rate,
        default=MAX_RATE,
        metavar="N",
        help="commands started per second, after a burst; more wait (default %(default)g)",
    )
    limits.add_argument(
        "--nice",
        type=_nice,
        default=DEFAULT_NICE,
        metavar="N",
        help=f"priority, 0 (as it is) to {MOST_NICE} (lowest); commands inherit it "
        "(default %(default)s)",
    )
    limits.add_argument(
        "--poll-cache",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="answer squeue and its like from one that began so long ago, unless something was "
        "run since (default: 0, never)",
    )


def _program(text: str) -> str:
    if not is_program_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no bare name of a program")
    return text


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than one")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text} per second is no rate")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= MAX_POLL_CACHE:  # this way round for NaN
        raise argparse.ArgumentTypeError(f"{text} seconds are not within 0 to {MAX_POLL_CACHE:g}")
    return number


def _nice(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_NICE:
        raise argparse.ArgumentTypeError(f"{number} is not in 0 to {MOST_NICE}")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(f"{number} is no TCP port")
    return number


def _hours(text: str) -> float:
    number = float(text)
    if not number > 0:  # this way round for NaN
        raise argparse.ArgumentTypeError(f"{text} hours are no time")
    return number
