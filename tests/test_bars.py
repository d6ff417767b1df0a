"""How far a transfer is, as a terminal and a notebook show it."""

from __future__ import annotations

import io
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from smartsim_bridge import Progress, ProgressBar

MIB = 1024 * 1024
HALF = Progress(1, 2, MIB, 2 * MIB, "a<b>\x1b[2J\n")
WHOLE = Progress(2, 2, 2 * MIB, 2 * MIB, "c", is_over=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Notebook:
    """IPython, as far as a bar looks for it; keeps what is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[dict[str, str]] = []
        shell = SimpleNamespace(kernel=object())
        ipython = SimpleNamespace(get_ipython=lambda: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=self.display))

    def display(self, bundle: dict[str, str], **words: Any) -> Notebook:
        self.shown.append(bundle)
        return self

    def update(self, bundle: dict[str, str], **words: Any) -> None:
        self.shown.append(bundle)


def draw() -> None:
    with ProgressBar("put") as bar:
        bar(HALF)
        bar(WHOLE)


def test_a_notebook_draws_one_output_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    draw()
    half, whole = notebook.shown
    assert half["text/plain"] == "put 1 of 2 files, 1.0 of 2.0 MiB"
    assert 'value="0.5000"' in half["text/html"]
    assert "a&lt;b&gt;?[2J?" in half["text/html"]  # no name is markup, or moves a cursor
    assert 'value="1.0000"' in whole["text/html"]


def test_a_terminal_draws_with_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("CI"):  # there it is, with the other test tools
        pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    draw()
    shown = terminal.getvalue()
    assert "put" in shown
    assert "1/2 a<b>?[2J?" in shown
    assert "2.0/2.0 MiB" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor comes back


def test_without_rich_a_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    draw()
    assert terminal.getvalue() == ""


def test_a_file_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    draw()
    assert log.getvalue() == ""


def test_what_is_empty_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    with ProgressBar() as bar:
        bar(Progress(0, 0, 0, 0, ""))
        bar(Progress(0, 0, 0, 0, "", is_over=True))
    assert 'value="1.0000"' in notebook.shown[-1]["text/html"]
