"""Keys of a console of Windows; the console itself is made up."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from types import SimpleNamespace

import pytest

from smartsim_bridge.errors import AuthenticationRequired
from smartsim_bridge.ssh import ask, console
from smartsim_bridge.ssh.ask import ask_terminal


class Keyboard:
    """What of msvcrt is used: keys come from `typed`, and `screen` is what they leave."""

    def __init__(self, typed: str) -> None:
        self._typed = list(typed)
        self.screen = ""

    def getwch(self) -> str:
        return self._typed.pop(0)

    def putwch(self, char: str) -> None:
        self.screen += char


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ask, "_IS_WINDOWS", True)
    monkeypatch.setattr(console, "open", lambda *_, **__: BytesIO(), raising=False)
    return monkeypatch


def type_in(windows: pytest.MonkeyPatch, typed: str) -> Keyboard:
    keyboard = Keyboard(typed)
    windows.setitem(sys.modules, "msvcrt", keyboard)
    return keyboard


@pytest.mark.parametrize("secret", [True, False])
def test_a_line_is_read_and_shown_only_where_it_is_no_secret(
    secret: bool, windows: pytest.MonkeyPatch
) -> None:
    keyboard = type_in(windows, "sesamy\be\r")
    assert ask_terminal("Pass\x1bword:\nagain: ", secret) == "sesame"
    prompt = "Pass?word:\r\nagain: "
    assert keyboard.screen == prompt + ("" if secret else "sesamy\b \be") + "\r\n"


def test_arrows_type_nothing_and_backspace_stops_at_the_prompt(
    windows: pytest.MonkeyPatch,
) -> None:
    keyboard = type_in(windows, "\b\xe0Ha\x00;\n")
    assert ask_terminal("? ", False) == "a"
    assert keyboard.screen == "? a\r\n"


def test_ctrl_c_interrupts(windows: pytest.MonkeyPatch) -> None:
    type_in(windows, "ses\x03")
    with pytest.raises(KeyboardInterrupt):
        ask_terminal("Password: ", True)


@pytest.mark.parametrize("end", ["\x1a", "\uffff"])
def test_the_end_of_input_means_nobody_is_there(end: str, windows: pytest.MonkeyPatch) -> None:
    type_in(windows, end)
    with pytest.raises(AuthenticationRequired, match="closed at 'Password:'"):
        ask_terminal("Password: ", True)


def test_without_a_console_nobody_is_there(windows: pytest.MonkeyPatch) -> None:
    def no_console(*_: object, **__: object) -> SimpleNamespace:
        raise OSError("The handle is invalid")

    windows.setattr(console, "open", no_console, raising=False)
    with pytest.raises(AuthenticationRequired, match="no terminal to ask 'Password:'"):
        ask_terminal("Password: ", True)


def test_the_platform_decides() -> None:
    assert (os.name == "nt") == ask._IS_WINDOWS
