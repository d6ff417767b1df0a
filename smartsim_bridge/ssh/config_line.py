"""How ssh cuts a line of ssh_config into words, and which names its patterns match.

Two ways of cutting, as there: arguments know quotes of both kinds and escapes, the criteria
of Match know double quotes and take one '=' for a space.  Pure text; known_hosts has the
same patterns.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from ..errors import InvalidSettings, UnsupportedSshConfig

__all__ = ["is_matching_any", "split_criteria", "split_keyword", "split_words"]

# Not every white space of Unicode: what ssh takes for part of a name is part of it here.
_SPACE = " \t"

# A word, or a quoted one, and the '=' or space behind it.  Of quotes inside words, escapes and
# single quotes older versions think otherwise than newer ones.
_CRITERION = re.compile(
    r"""
    (?: "(?P<quoted> (?!\#) (?: [^"\\] | \\(?![\\"']) )+ )"
      | (?P<plain> (?!\#) [^\s"'\\=]+ )
    )
    (?: [ \t]*=[ \t]*(?!=|\#|$) | [ \t]+(?!=) | $ )
    """,
    re.VERBOSE,
)
_ENDS = ' \t\r\n"='
_SEPARATOR = re.compile(r"^[ \t\r\n]*=?[ \t\r\n]*")


def is_matching_any(name: str, patterns: Iterable[str], *, is_case_kept: bool = False) -> bool:
    """Whether `name` fits the pattern list of OpenSSH: `*`, `?`, and `!` which vetoes."""
    is_match = False
    for pattern in patterns:
        if _is_matching(name, pattern[1:] if pattern[:1] == "!" else pattern, is_case_kept):
            if pattern[:1] == "!":
                return False
            is_match = True
    return is_match


def _is_matching(name: str, pattern: str, is_case_kept: bool) -> bool:
    if not is_case_kept:
        name, pattern = name.lower(), pattern.lower()
    # Most are names; known_hosts may have tens of thousands.
    if "*" not in pattern and "?" not in pattern:
        return name == pattern
    # No sets of characters there: a bracket is a bracket.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def split_keyword(line: str, where: str) -> tuple[str, str]:
    """The keyword in lower case, and the rest; two empty texts where the line says nothing."""
    # ssh's strings end at a NUL, and so does what it reads of the line.
    text = line.partition("\0")[0].strip(" \t\r\n\f")
    if not text or text.startswith("#"):
        return "", ""
    word, rest = _next_word(text, where)
    return word.lower(), rest


def split_words(text: str, where: str) -> list[str]:
    """The arguments: quotes of both kinds, four escapes, '#' begins a comment."""
    words: list[str] = []
    word, quote, position = "", "", 0
    is_started = False
    while position < len(text):
        char = text[position]
        following = text[position + 1 : position + 2]
        if char == "\\" and following and following in "\\\"'" + ("" if quote else " "):
            word, is_started, position = word + following, True, position + 1
        elif quote:
            word, quote = (word, "") if char == quote else (word + char, quote)
        elif char in "\"'":
            quote, is_started = char, True
        elif char in _SPACE:
            words, word, is_started = ([*words, word] if is_started else words), "", False
        elif char == "#" and not is_started:
            return words
        else:
            word, is_started = word + char, True
        position += 1
    if quote:
        raise InvalidSettings(f"{where}: a quote is not closed", step="resolve")
    return [*words, word] if is_started else words


def split_criteria(text: str, where: str) -> list[str]:
    """What stands behind Match; only what all versions of ssh cut alike."""
    words, position = [], 0
    while position < len(text) and text[position] != "#":
        found = _CRITERION.match(text, position)
        if found is None:
            raise UnsupportedSshConfig(
                f"{where}: how {text!r} is cut into words depends on the version of ssh",
                step="resolve",
            )
        words.append(found["quoted"] or found["plain"])
        position = found.end()
    return words


def _next_word(text: str, where: str) -> tuple[str, str]:
    end = next((i for i, char in enumerate(text) if char in _ENDS), len(text))
    head, rest = text[:end], text[end:]
    if not rest.startswith('"'):
        return head, _SEPARATOR.sub("", rest, count=1)
    quoted, quote, rest = rest[1:].partition('"')
    if not quote:
        raise InvalidSettings(f"{where}: a quote is not closed", step="resolve")
    return head + quoted, rest.lstrip(_SPACE)
