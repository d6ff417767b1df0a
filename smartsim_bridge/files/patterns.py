"""Which names take part in a transfer.  Pure.

A subset of what .gitignore knows: `*` and `?` and `[...]` within one name, `**` for any
number of folders.  A pattern without / is of a name at any depth, one with / of the path
from the top; a / at its end means folders only.  No `!`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Patterns"]


@dataclass(frozen=True)
class Patterns:
    """What is left out, and what alone is taken where anything is named.

    What is left out wins.  A folder that is left out is not looked into; `include` is of files
    and links only, and with it folders are made only where something goes into them.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size: int | None = None

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether a pattern keeps it from taking part."""
        if self.exclude and _match(self.exclude, path, is_folder):
            return True
        return bool(self.include) and not is_folder and not self._includes(path)

    def _includes(self, path: str) -> bool:
        """Whether it, or a folder above it, is named."""
        if _match(self.include, path, False):
            return True
        names = path.split("/")
        return any(
            _match(self.include, "/".join(names[:depth]), True) for depth in range(1, len(names))
        )


def _match(patterns: Iterable[str], path: str, is_folder: bool) -> bool:
    for pattern in patterns:
        if pattern.endswith("/") and not is_folder:
            continue
        bare = pattern.rstrip("/")
        subject = path if "/" in bare else path.rpartition("/")[2]
        if _compiled(bare).match(subject):
            return True
    return False


_cache: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    found = _cache.get(pattern)
    if found is None:
        found = _cache[pattern] = re.compile(_expression(pattern), re.DOTALL)
    return found


def _expression(pattern: str) -> str:
    parts = [one for one in pattern.split("/") if one]
    said = ""
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        if part == "**":
            said += ".*" if is_last else "(?:[^/]+/)*"
        else:
            said += _of_one_name(part) + ("" if is_last else "/")
    return said + r"\Z"


def _of_one_name(part: str) -> str:
    """As fnmatch.translate, but nothing crosses a /."""
    said, place = "", 0
    while place < len(part):
        letter = part[place]
        place += 1
        if letter == "*":
            said += "[^/]*"
        elif letter == "?":
            said += "[^/]"
        elif letter == "[" and "]" in part[place + 1 :]:
            end = part.index("]", place + 1)
            said += _of_one_letter(part[place:end])
            place = end + 1
        else:
            said += re.escape(letter)
    return said


def _of_one_letter(inside: str) -> str:
    negated = "^/" if inside.startswith("!") else ""
    letters = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    return f"(?!/)[{negated}{letters}]"
