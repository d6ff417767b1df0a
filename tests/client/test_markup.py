"""HTML for notebooks: whole, inert, readable on white and on black, and with no colour at all."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from smartsim_bridge.client import markup
from smartsim_bridge.client.markup import Mark

HOSTILE = "<script>alert(\"&\")</script><img src=x onerror='boom()'>"
WHITE, BLACK = "#ffffff", "#111111"
NOT_CLOSED = ("br", "img")


class Page(HTMLParser):
    """What a browser would see; fails where a tag is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.scopes: list[str | None] = []
        self.unseen = 0
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, html

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append(tag)
        if tag not in NOT_CLOSED:
            self._open.append(tag)
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))
        self.unseen += ("aria-hidden", "true") in attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize(
    "html",
    [
        markup.box(markup.heading(HOSTILE, HOSTILE)),
        markup.heading(Mark(HOSTILE, markup.GOOD, HOSTILE)),
        markup.note(HOSTILE, HOSTILE, advice=HOSTILE),
        markup.folded(HOSTILE, markup.facts(HOSTILE, [(HOSTILE, HOSTILE)])),
        markup.table(["A", "B"], [["one", markup.Long(HOSTILE, 5)]]),
        markup.table([HOSTILE], [[HOSTILE]], caption=HOSTILE, code=[HOSTILE]),
    ],
)
def test_what_is_shown_is_never_markup(html: str) -> None:
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert HOSTILE in page.text


def test_what_would_steer_or_turn_the_writing_is_spelled_out() -> None:
    shown = "".join(Page(markup.heading("a\x1b[31mb\u202ec\x00d")).text)
    assert shown == "a\\x1b[31mb\\u202ec\\x00d"


def test_every_heading_says_what_it_heads() -> None:
    page = Page(markup.table(["A", "B"], [["one", "two"]], caption="Numbers"))
    assert page.scopes == ["col", "col", "row"]
    assert page.tags[:3] == ["table", "caption", "thead"]


def test_a_symbol_is_for_the_eye_and_its_word_for_all() -> None:
    page = Page(markup.heading(markup.Mark("✗", markup.BAD, "failed")))
    assert page.unseen == 1
    assert "failed" in "".join(page.text)


@pytest.mark.parametrize("colour", [markup.GOOD, markup.BAD, markup.NEUTRAL])
@pytest.mark.parametrize("ground", [WHITE, BLACK])
def test_symbols_stand_out_from_every_ground(colour: str, ground: str) -> None:
    """3 : 1 is what WCAG 2 asks of what is not text."""
    light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3.0


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
