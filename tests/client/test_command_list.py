"""The list of commands: a list for programs, a table for people."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace

from smartsim_bridge.client.command_list import SHOWN, CommandList
from tests.client.test_listing_text import ENDED, RUNNING

HOSTILE = replace(ENDED, argv=("echo", "<script>alert(1)</script>"), note="<b>")


class Printer:
    """What of IPython's printer is used."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, words: str) -> None:
        self.said += words


def shown(commands: CommandList) -> str:
    printer = Printer()
    commands._repr_pretty_(printer, cycle=False)
    return printer.said


def test_for_programs_it_is_a_list() -> None:
    commands = CommandList([RUNNING, ENDED])
    assert commands == [RUNNING, ENDED]
    assert repr(commands) == repr([RUNNING, ENDED])
    assert copy.deepcopy(commands) == commands
    assert json.dumps([asdict(one) for one in commands])


def test_for_people_it_is_a_table() -> None:
    commands = CommandList([RUNNING, ENDED])
    heading, *lines = str(commands).splitlines()
    assert heading.startswith("ID ")
    assert len(lines) == 2
    assert shown(commands) == str(commands)
    html = commands._repr_html_()
    assert html.count("<tr>") == 3
    assert "running" in html
    assert "my job.sh" in html


def test_an_empty_list_says_so() -> None:
    assert str(CommandList()) == shown(CommandList()) == "no commands"
    assert "No commands" in CommandList()._repr_html_()


def test_a_hostile_command_is_shown_and_does_nothing() -> None:
    html = CommandList([HOSTILE])._repr_html_()
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html


def test_of_a_long_command_the_beginning_is_seen_first() -> None:
    html = CommandList([replace(ENDED, argv=("echo", "x" * 500))])._repr_html_()
    summary = html.partition("<summary>")[2].partition("</summary>")[0]
    assert summary.endswith("xx…")
    assert len(summary) <= 101
    assert "x" * 500 in html


def test_of_many_those_that_run_and_the_latest_are_shown() -> None:
    old = replace(ENDED, argv=("old",))
    commands = CommandList([RUNNING, *[old] * 10, *[ENDED] * SHOWN])
    for picture in (shown(commands), commands._repr_html_()):
        assert "and 10 older: print() shows all" in picture
        assert "running" in picture
        assert "old" not in picture.replace("older", "").replace("bold", "")
    assert "old" in str(commands)
