"""How far a transfer is, drawn: one bar in a notebook cell, or in a terminal that has rich.

with ProgressBar("put") as bar:
    bridge.put("data", "data", progress=bar)

Anywhere else it draws nothing.  Knows Progress, and not what is moved.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .files.report import Progress

__all__ = ["ProgressBar"]


class _Drawing(Protocol):
    def draw(self, now: Progress) -> None:
        """As it is now."""

    def end(self) -> None:
        """It stays as it was drawn last."""


class ProgressBar:
    """A listener for `progress=`, used as a context, that draws what it is told."""

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._drawing: _Drawing | None = None

    def __call__(self, now: Progress) -> None:
        """Draws it."""
        if self._drawing is None:
            self._drawing = _begin(self._title)
        self._drawing.draw(now)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            drawing.end()


def _begin(title: str) -> _Drawing:
    display = _notebook()
    if display is not None:
        return _Cell(title, display)
    if sys.stderr.isatty():
        with suppress(ImportError):
            return _Terminal(title)
    return _Nothing()


def _notebook() -> Callable[..., Any] | None:
    """IPython's `display`, where this runs in a kernel; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    shown: Callable[..., Any] = display
    return shown


class _Nothing:
    def draw(self, now: Progress) -> None:
        pass

    def end(self) -> None:
        pass


class _Cell:
    """One output, drawn anew."""

    def __init__(self, title: str, display: Callable[..., Any]) -> None:
        self._title = title
        self._display = display
        self._handle: Any = None

    def draw(self, now: Progress) -> None:
        words = f"{self._title} {_words(now)}".strip()
        share = 1.0 if now.is_over else _share(now)
        bar = f'<progress max="1" value="{share:.4f}"></progress>'
        name = "" if now.is_over else f" <code>{html.escape(_printable(now.name))}</code>"
        bundle = {"text/html": f"{bar} {html.escape(words)}{name}", "text/plain": words}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def end(self) -> None:
        pass


class _Terminal:
    """rich's bar, drawn when there is news, not by a thread of its own."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", words="")
        self._bar.start()

    def draw(self, now: Progress) -> None:
        words = f"{now.files}/{now.files_total} {_printable(now.name)}"
        # An empty file is done, too: 0 of 0 would be a bar that is not.
        self._bar.update(self._task, total=now.bytes_total or 1, words=words)
        self._bar.update(self._task, completed=now.bytes if now.bytes_total else int(now.is_over))
        self._bar.refresh()

    def end(self) -> None:
        self._bar.stop()


def _share(now: Progress) -> float:
    done, total = (now.bytes, now.bytes_total) if now.bytes_total else (now.files, now.files_total)
    return min(1.0, done / total) if total else 0.0


def _words(now: Progress) -> str:
    mib = 1024 * 1024
    amount = f"{now.bytes / mib:.1f} of {now.bytes_total / mib:.1f} MiB"
    return f"{now.files} of {now.files_total} files, {amount}"


def _printable(name: str) -> str:
    """A name that no terminal obeys."""
    return "".join(one if one.isprintable() else "?" for one in name)
