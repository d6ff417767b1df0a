"""Commands as lines: what is shown, what is left out, and that nothing breaks the screen."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from smartsim_bridge.client.listing import CommandInfo
from smartsim_bridge.client.listing_text import ending, recent, table

NOW = 1_800_000_000.0
RUNNING = CommandInfo(
    id="0123456789abcdef" * 2,
    argv=("sbatch", "my job.sh"),
    state="running",
    pid=4711,
    returncode=None,
    asked=NOW - 60,
    ended=0.0,
    keep=True,
    followed=True,
    stdout=1000,
    stderr=24,
    note="",
)
ENDED = replace(RUNNING, state="ended", returncode=3, ended=NOW - 30, keep=False, followed=False)


def cells(one: CommandInfo) -> list[str]:
    heading, line = table([one], NOW).splitlines()
    assert heading.split() == ["ID", "STATE", "PID", "STARTED", "EXIT", "FLAGS", "BYTES", "COMMAND"]
    return line.split(None, 7)


def test_a_running_command_in_a_line() -> None:
    clock = time.strftime("%H:%M:%S", time.localtime(NOW - 60))
    line = ["0123456789ab", "running", "4711", clock, "-", "keep,followed", "1024"]
    assert cells(RUNNING) == [*line, "sbatch 'my job.sh'"]


def test_an_ended_command_in_a_line() -> None:
    assert cells(ENDED)[4:6] == ["3", "-"]
    assert cells(replace(ENDED, followed=True))[5] == "-"  # there is nothing left to follow
    assert cells(replace(ENDED, pid=0, asked=0.0))[2:4] == ["-", "-"]


def test_what_was_asked_for_days_ago_has_a_date() -> None:
    moment = NOW - 3 * 86400
    assert cells(replace(RUNNING, asked=moment))[3] == time.strftime(
        "%Y-%m-%d", time.localtime(moment)
    )


def test_a_note_follows_the_command() -> None:
    assert cells(replace(RUNNING, note="paused: no room"))[7].endswith("  (paused: no room)")


@pytest.mark.parametrize(
    ("returncode", "said"),
    [(None, "-"), (0, "0"), (255, "255"), (-15, "SIGTERM"), (-9, "SIGKILL"), (-99, "signal 99")],
)
def test_endings(returncode: int | None, said: str) -> None:
    assert ending(returncode) == said


def test_columns_stand_below_each_other() -> None:
    lines = table([RUNNING, replace(ENDED, pid=1, stdout=0, stderr=0)], NOW).splitlines()
    assert (
        len({line.index(word) for line, word in zip(lines, ("COMMAND", "sbatch", "sbatch"))}) == 1
    )
    assert lines[1].index("4711") + 3 == lines[2].index(" 1 ") + 1


def test_lines_are_cut_to_the_screen() -> None:
    long = replace(RUNNING, argv=("echo", "x" * 500))
    assert max(map(len, table([long], NOW, 80).splitlines())) == 80
    assert "x" * 500 in table([long], NOW)


@pytest.mark.parametrize(
    "evil", ["a\nb", "\x1b[2Jgone", "tab\there", "\udcff", "\x7f", "\u202eabc"]
)
def test_nothing_in_a_command_breaks_the_screen(evil: str) -> None:
    text = table([replace(RUNNING, argv=("echo", evil), note=evil)], NOW)
    assert text.count("\n") == 2
    assert all(one.isprintable() or one == "\n" for one in text)
    text.encode("utf-8")


def test_what_ended_long_ago_is_not_recent() -> None:
    old = replace(ENDED, asked=NOW - 9000, ended=NOW - 3700)
    unknown = replace(ENDED, state="unknown", asked=NOW - 9000, ended=0.0)
    waiting = replace(RUNNING, state="waiting", asked=NOW - 9000)
    late = replace(ENDED, asked=NOW - 9000, ended=NOW - 3500)
    assert recent([RUNNING, ENDED, old, unknown, waiting, late], NOW) == [
        *(RUNNING, ENDED, waiting, late)
    ]


def test_no_commands_are_a_heading_only() -> None:
    assert table([], NOW).split()[0] == "ID"
    assert table([], NOW).count("\n") == 1
