"""How findings look: a table that fits a ticket, and JSON.

Text of hosts ends here, so it is stripped of what could steer a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from .findings import FAIL, OK, SKIPPED, WARN, Finding

__all__ = ["NARROW", "WIDE", "Report"]

NARROW, WIDE = 80, 100  # columns: tickets break lines that are longer

_SHOWN = {OK: "ok", WARN: "warn", FAIL: "FAIL", SKIPPED: "-"}
_COLOURS = {OK: "32", WARN: "33", FAIL: "31;1", SKIPPED: "2"}


@dataclass(frozen=True)
class Report:
    """All findings about one target, in the order of the stages."""

    target: str
    version: str
    findings: tuple[Finding, ...]

    @property
    def has_failed(self) -> bool:
        """Whether anything keeps the bridge from working."""
        return any(one.verdict == FAIL for one in self.findings)

    def to_json(self) -> str:
        """For programs."""
        findings = [dataclasses.asdict(_plain(one)) for one in self.findings]
        content = {"target": self.target, "version": self.version, "findings": findings}
        return json.dumps(content, indent=2) + "\n"

    def to_text(self, width: int = NARROW, *, colours: bool = False) -> str:
        """For people: `width` columns, between 80 and 100."""
        width = min(max(width, NARROW), WIDE)
        column = max(len(one.name) for one in self.findings)
        lines = [f"smartsim-bridge {self.version}, doctor for {_printable(self.target)}", ""]
        for one in map(_plain, self.findings):
            lines += _rows(one, column, width, colours)
        return "\n".join([*lines, "", _summary(self.findings)]) + "\n"


def _rows(one: Finding, column: int, width: int, colours: bool) -> list[str]:
    verdict = f"{_SHOWN[one.verdict]:4}"
    margin = len(verdict) + 2 + column + 2
    shown = _wrapped(one.evidence, width - margin) or [""]
    shown += [f"> {line}" for line in _wrapped(one.advice, width - margin - 2)]
    if colours:
        verdict = f"\x1b[{_COLOURS[one.verdict]}m{verdict}\x1b[0m"
    first = f"{verdict}  {one.name:{column}}  {shown[0]}".rstrip()
    return [first, *(f"{'':{margin}}{line}" for line in shown[1:])]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _summary(findings: Sequence[Finding]) -> str:
    failed = [one.name for one in findings if one.verdict == FAIL]
    warned = sum(one.verdict == WARN for one in findings)
    if failed:
        return f"Failed: {', '.join(failed)}."
    return "Nothing failed." if not warned else f"Nothing failed; {warned} to look at."


def _plain(one: Finding) -> Finding:
    return Finding(one.name, one.verdict, _printable(one.evidence), _printable(one.advice))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)
