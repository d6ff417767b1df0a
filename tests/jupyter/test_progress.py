"""The steps of a connect as text and as one picture that is drawn anew."""

from __future__ import annotations

from typing import Any

import pytest

from smartsim_bridge.errors import LaunchFailed, NoRungHeld
from smartsim_bridge.jupyter.progress import Lines, Picture
from smartsim_bridge.stages import Stage

CONNECT = Stage("connect", "login1", 0.0123, "login1 port 22")
LAUNCH = Stage("launch", "login1", 1.5, "", failed=True)


class Screen:
    """IPython's display, and the handle that it gives."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def __call__(self, bundle: dict[str, str], **keywords: Any) -> Screen:
        assert keywords == {"raw": True, "display_id": True}
        assert not self.shown
        return self._show(bundle)

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        self._show(bundle)

    def _show(self, bundle: dict[str, str]) -> Screen:
        self.shown.append(bundle)
        return self


def test_a_line_for_each_step_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    moments = iter([10.0, 12.5])
    lines = Lines("login1", clock=lambda: next(moments))
    lines(CONNECT)
    assert capsys.readouterr().err == "✓ connect             12 ms  login1 port 22\n"
    lines.succeed()
    lines(CONNECT)  # of a later login
    assert capsys.readouterr().err == "✓ Connected to login1, 2.5 s\n"


def test_a_picture_grows_and_ends_with_the_outcome() -> None:
    screen = Screen()
    picture = Picture("login1", screen)
    picture(CONNECT)
    picture.succeed()
    picture(LAUNCH)
    first, second, last = (shown["text/html"] for shown in screen.shown)
    assert "Connecting to login1" in first
    assert "connect" not in first.replace("Connecting", "")
    assert "login1 port 22" in second
    assert "Connected to login1" in last
    assert "launch" not in last


def test_a_failure_says_where_why_and_what_to_do() -> None:
    screen = Screen()
    picture = Picture("login1", screen)
    picture(LAUNCH)
    picture.fail(LaunchFailed("No word came", host="login1", step="launch", noise="<b>oops</b>"))
    html, text = (screen.shown[-1][kind] for kind in ("text/html", "text/plain"))
    for said in ("failed", "LaunchFailed", "No word came (login1, launch)", "What to do:"):
        assert said in html
    assert "&lt;b&gt;oops" in html
    assert text.startswith("✗ Not connected to login1")
    assert "smartsim-bridge logs" in text


def test_every_way_that_failed_is_named() -> None:
    screen = Screen()
    picture = Picture("login1", screen)
    picture.fail(NoRungHeld("No way leads there", reasons=(("tunnel", "forbidden"),)))
    assert "tunnel: forbidden" in screen.shown[-1]["text/html"]
