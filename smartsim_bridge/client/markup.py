"""HTML for the cells of a notebook: text and tables that any theme shows and nothing breaks.

Pure: words in, markup out; everything that is shown is escaped here.  Knows nothing of what
it shows.  No style sheet and no script, for the places that show notebooks remove them:
colours are the theme's own, borders half transparent, and what a colour says a word says, too.
"""

from __future__ import annotations

import html
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Union

__all__ = [
    "BAD",
    "GOOD",
    "NEUTRAL",
    "Cell",
    "Long",
    "Mark",
    "box",
    "facts",
    "folded",
    "heading",
    "note",
    "plain",
    "table",
]

# Each stands out from white and from the darkest grey of the usual themes alike.
GOOD, BAD, NEUTRAL = "#2c8c50", "#d8453c", "#808080"

_LINE = "1px solid rgba(128,128,128,.35)"
_BOX = "max-width:64em;margin:.4em 0;line-height:1.45;color:inherit"
_TABLE = "border-collapse:collapse;margin:.3em 0;color:inherit;background:transparent"
_CAPTION = "caption-side:top;text-align:left;padding:.2em 0;color:inherit;font-weight:600"
_HEAD = f"padding:.15em 1.1em .15em 0;border:0;border-bottom:{_LINE};font-weight:600"
_CELL = "padding:.15em 1.1em .15em 0;border:0;vertical-align:top;font-weight:normal"
_NAME = f"{_CELL};white-space:nowrap"
_NOTE = f"border-left:3px solid {BAD};padding:.2em .8em;margin:.4em 0"
_CODE = "font-family:var(--jp-code-font-family,monospace);white-space:pre-wrap"


@dataclass(frozen=True)
class Mark:
    """A symbol for the eye, the same as a word for everybody, and what else is to be said."""

    symbol: str
    colour: str
    words: str = ""


@dataclass(frozen=True)
class Long:
    """Text of which so many letters are shown; the rest is behind them."""

    text: str
    shown: int


Cell = Union[str, Mark, Long]


def plain(text: str) -> str:
    """Without what would break the line, command a terminal, or turn the writing round."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def box(*parts: str) -> str:
    """Markup, one part below the other, as one thing."""
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def heading(cell: Cell, more: str = "") -> str:
    """One line that says how it is; `more` in plain weight."""
    rest = f" {_escaped(more)}" if more else ""
    return f"<div><strong>{_filled(cell)}</strong>{rest}</div>"


def note(title: str, *lines: str, advice: str = "") -> str:
    """What went wrong, and below it what to do."""
    said = "".join(f'<div style="white-space:pre-wrap">{_escaped(line)}</div>' for line in lines)
    end = f"<div><strong>What to do:</strong> {_escaped(advice)}</div>" if advice else ""
    name = _filled(Mark("✗", BAD, title))
    return f'<div role="alert" style="{_NOTE}"><strong>{name}</strong>{said}{end}</div>'


def folded(summary: str, *parts: str) -> str:
    """Markup behind a line that opens it."""
    inner = "".join(parts)
    return f'<details style="margin:.1em 0"><summary>{_escaped(summary)}</summary>{inner}</details>'


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    numbers: Container[str] = (),
    code: Container[str] = (),
) -> str:
    """Rows, the first cell of each being its heading.

    The columns named in `numbers` stand to the right, those in `code` are set as code.
    """
    looks = [_look(one in numbers, one in code) for one in headings]
    top = "".join(
        f'<th scope="col" style="{_HEAD};{look}">{_escaped(one)}</th>'
        for one, look in zip(headings, looks)
    )
    title = f'<caption style="{_CAPTION}">{_escaped(caption)}</caption>' if caption else ""
    body = "".join(f"<tr>{_row(row, looks)}</tr>" for row in rows)
    return (
        f'<table style="{_TABLE}">{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    )


def facts(caption: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Names, and what each is."""
    looks = [_look(), _look()]
    body = "".join(f"<tr>{_row(pair, looks)}</tr>" for pair in pairs)
    title = f'<caption style="{_CAPTION}">{_escaped(caption)}</caption>'
    return f'<table style="{_TABLE}">{title}<tbody>{body}</tbody></table>'


def _look(is_number: bool = False, is_code: bool = False) -> str:
    if is_number:
        return "text-align:right;white-space:nowrap"
    return f"text-align:left;{_CODE}" if is_code else "text-align:left"


def _row(row: Sequence[Cell], looks: Sequence[str]) -> str:
    name, *rest = (_filled(cell) for cell in row)
    cells = (f'<td style="{_CELL};{look}">{cell}</td>' for cell, look in zip(rest, looks[1:]))
    return f'<th scope="row" style="{looks[0]};{_NAME}">{name}</th>{"".join(cells)}'


def _filled(cell: Cell) -> str:
    if isinstance(cell, str):
        return _escaped(cell)
    if isinstance(cell, Long):
        if len(cell.text) <= cell.shown:
            return _escaped(cell.text)
        return folded(f"{cell.text[: cell.shown]}…", _escaped(cell.text))
    symbol = f'<span aria-hidden="true" style="color:{cell.colour}">{_escaped(cell.symbol)}</span>'
    return f"{symbol}&nbsp;{_escaped(cell.words)}"


def _escaped(text: str) -> str:
    return html.escape("\n".join(map(plain, text.split("\n"))))
