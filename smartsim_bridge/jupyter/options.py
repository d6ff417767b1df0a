"""The words after a magic's name: options first, then what belongs to the head.

The options of %bridge are made of the signature of `init_command_server`, so that they
cannot differ from it.  A command keeps its quotes, its pipes and its spaces: it is the
head's shell that reads it, not we.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Callable
from typing import NoReturn

__all__ = ["bridge_parser", "head_parser", "option_names", "parse", "parse_before_command"]

# Given by the face itself.
_OURS = ("addr", "ask", "on_stage")

_WORD = re.compile(r"""\s*((?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+)""")


class _Parser(argparse.ArgumentParser):
    """Raises IPython's UsageError, which is shown as a line, where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise _usage_error(f"%{self.prog}: {message}\n{self.format_usage().strip()}")


def _usage_error(message: str) -> Exception:
    from IPython.core.error import UsageError

    return UsageError(message)


def bridge_parser(connect: Callable[..., object]) -> argparse.ArgumentParser:
    """Options as the keywords of `connect`, and what ends a bridge."""
    parser = _Parser("bridge", add_help=False, allow_abbrev=False)
    parser.add_argument("addr", nargs="?", metavar="TARGET")
    parser.add_argument("--close", action="store_true")
    parser.add_argument("--stop", action="store_true")
    for name, parameter in inspect.signature(connect).parameters.items():
        option = f"--{name.replace('_', '-')}"
        if name in _OURS:
            continue
        if "bool" in str(parameter.annotation):
            parser.add_argument(option, action=argparse.BooleanOptionalAction)
        else:  # the settings check and convert it, as they do for the environment's words
            parser.add_argument(option)
    return parser


def head_parser() -> argparse.ArgumentParser:
    """Options of %head and %%head."""
    parser = _Parser("head", add_help=False, allow_abbrev=False)
    parser.add_argument("--cwd", metavar="DIRECTORY")
    parser.add_argument("--shell", metavar="INTERPRETER", type=shlex.split, default=[])
    parser.add_argument("--out", metavar="VARIABLE")
    parser.add_argument("--bg", action="store_true")
    parser.add_argument("--no-raise-error", dest="raises", action="store_false")
    return parser


def option_names(parser: argparse.ArgumentParser) -> dict[str, bool]:
    """Each option, and whether a value follows it."""
    return {name: action.nargs != 0 for name, action in parser._option_string_actions.items()}


def parse(parser: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    """All words of the line.  Raises UsageError."""
    try:
        words = shlex.split(line)
    except ValueError as unbalanced:
        raise _usage_error(f"%{parser.prog}: {unbalanced}") from None
    return parser.parse_args(words)


def parse_before_command(
    parser: argparse.ArgumentParser, line: str
) -> tuple[argparse.Namespace, str]:
    """The options that the line begins with, and the command as it was typed."""
    takes_value = option_names(parser)
    end, is_value = 0, False
    while word := _WORD.match(line, end):
        text = word[1]
        if not is_value and not text.startswith("--"):
            break
        end = word.end()
        if text == "--" and not is_value:
            return parse(parser, line[: word.start(1)]), line[end:].strip()
        is_value = not is_value and takes_value.get(text, False)
    return parse(parser, line[:end]), line[end:].strip()
