"""The options that tell the way to a head, and the bridge that they make."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..stages import Stage
from .voice import say, show

if TYPE_CHECKING:
    from ..client.blocking import Bridge

__all__ = ["add", "again", "connect", "connect_to_end_it", "keywords", "names", "program"]

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
    (
        "--poll-cache",
        {"type": float, "metavar": "SECONDS", "help": "of a server that this starts"},
    ),
    ("--timeout", {"type": float, "metavar": "SECONDS", "help": "for the whole connect"}),
)


def add(
    verbs: Any, name: str, act: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    """A verb with the options that all have."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=summary)
    parser.add_argument("--addr", metavar="TARGET", help="host, user@host:port or ssh alias")
    for option, details in _CONNECTING:
        parser.add_argument(option, **details)
    parser.add_argument("-v", "--verbose", action="store_true", help="show each step")
    parser.set_defaults(act=act)
    return parser


def keywords(options: argparse.Namespace) -> dict[str, Any]:
    """What they ask for, in the words of `init_command_server`."""
    return {
        **{name: getattr(options, name) for name in names()},
        "on_stage": show if options.verbose else None,
    }


def names() -> list[str]:
    """Of the keywords that these options give."""
    return ["addr", *(option[2:].replace("-", "_") for option, _ in _CONNECTING)]


def connect(options: argparse.Namespace, *, autostart: bool = False, shims: bool = False) -> Bridge:
    """The bridge that they ask for; only a shell has a use for shims."""
    # Imported late: --help and a mistyped option need no event loop.
    from ..current import init_command_server

    wanted = keywords(options)
    unprovided: list[str] = []

    def listen(stage: Stage) -> None:
        if stage.failed and stage.name == "provision":
            unprovided.append(stage.detail)

    if not options.verbose:
        wanted["on_stage"] = listen
    bridge = init_command_server(autostart=autostart, shims=shims, **wanted)
    for why in unprovided:  # the link holds, but is not the one that was wished for
        say(f"pyzmq could not be brought along: {why}")
    return bridge


def connect_to_end_it(options: argparse.Namespace, *, dismiss: bool) -> Bridge | None:
    """None where it has been ended already: it spoke another protocol."""
    from ..client.blocking import Bridge
    from ..client.talk import WishGranted
    from ..settings import Settings

    settings = Settings.gather(autostart=False, **keywords(options))
    try:
        return Bridge.from_settings(settings, dismiss=dismiss)
    except WishGranted as granted:
        sys.stdout.write(f"server of version {granted.version} stopped, its commands with it\n")
        return None


def again(options: argparse.Namespace, command: str) -> str:
    """The command line that attaches to it."""
    from ..client.listing_text import ID_DIGITS

    words = ["smartsim-bridge", "attach"]
    for name in names():
        value, option = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is not None:
            words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, command[:ID_DIGITS]])


def program(options: argparse.Namespace) -> list[str]:
    """The words behind the options, without the dashes between."""
    words: list[str] = options.command
    return words[1:] if words[:1] == ["--"] else words
