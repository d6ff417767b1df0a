"""The words after a magic's name: which options there are, and where the command begins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smartsim_bridge import init_command_server
from smartsim_bridge.jupyter.options import (
    bridge_parser,
    head_parser,
    option_names,
    parse,
    parse_before_command,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "notebook.md"


def bridge(line: str) -> dict[str, object]:
    given = vars(parse(bridge_parser(init_command_server), line))
    return {name: value for name, value in given.items() if value not in (None, False)}


def test_options_of_bridge_are_the_keywords_of_init_command_server() -> None:
    assert bridge("me@login1 --ssh-port 2222 --provision --keep-env A,B") == {
        "addr": "me@login1",
        "ssh_port": "2222",
        "provision": True,
        "keep_env": "A,B",
    }
    assert vars(parse(bridge_parser(init_command_server), "--no-autostart"))["autostart"] is False
    assert bridge("login1 --prelude 'module load python'")["prelude"] == "module load python"


@pytest.mark.parametrize(
    ("line", "cwd", "command"),
    [
        ("squeue --me", None, "squeue --me"),
        ("  echo 'a  b' | cat ", None, "echo 'a  b' | cat"),
        ("--cwd /tmp ls --all", "/tmp", "ls --all"),
        ("--cwd='/a b' ls", "/a b", "ls"),
        ("--cwd '/a b'  ls '--out' x", "/a b", "ls '--out' x"),
        ("--cwd /tmp -- --odd name", "/tmp", "--odd name"),
        ("--cwd /tmp", "/tmp", ""),
        ("", None, ""),
        ("echo it's", None, "echo it's"),
    ],
)
def test_the_command_begins_after_the_options_and_is_left_alone(
    line: str, cwd: str | None, command: str
) -> None:
    options, rest = parse_before_command(head_parser(), line)
    assert (options.cwd, rest) == (cwd, command)


def test_every_option_of_head_is_in_the_page() -> None:
    told = re.findall(r"^\| `(--[a-z-]+)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert told == list(option_names(head_parser()))
