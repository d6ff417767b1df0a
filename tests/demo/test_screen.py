"""What the demo writes: plain text in a pipe, colours on a terminal that wants them."""

from __future__ import annotations

import io

import pytest

from smartsim_bridge.demo.screen import Screen, printable
from smartsim_bridge.stages import Stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def drawn_on(out: io.StringIO) -> str:
    screen = Screen(out)
    screen.heading("An act")
    screen.say("a remark")
    screen.show("name", "value", good=True)
    screen.stage(Stage("connect", "login1", 0.01234, "port 22"))
    screen.stage(Stage("tunnel", "login1", 1.5, failed=True))
    return out.getvalue()


def test_pipe_gets_plain_text() -> None:
    assert drawn_on(io.StringIO()) == (
        "\nAn act\n"
        "  a remark\n"
        "  name             value\n"
        "  connect            0.012 s  port 22\n"
        "  tunnel             1.500 s  failed\n"
    )


def test_terminal_gets_colours() -> None:
    assert "\033[32mvalue\033[0m" in drawn_on(Terminal())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_terminal_that_wants_no_colours_gets_none(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert "\033" not in drawn_on(Terminal())


def test_control_characters_of_a_host_are_spelled_out() -> None:
    out = io.StringIO()
    Screen(out).stage(Stage("probe", "evil", 0.0, "\033]0;title\a\r\n"))
    assert "\033" not in out.getvalue()
    assert r"\x1b]0;title\x07\r\n" in out.getvalue()


def test_letters_of_other_languages_stay() -> None:
    assert printable("größer, 大きい") == "größer, 大きい"
