"""What the doctor looks at, and what a finding is.  Pure; used by all of this room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CHECKS", "FAIL", "OK", "SKIPPED", "WARN", "Chart", "Finding"]

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"

# In the order of the table; the reference page is drawn from it.
CHECKS = {
    "name": "the addresses that the name has here",
    "TCP port": "whether the SSH port answers, or the way to it",
    "host key": "its type and fingerprint, and the line of known_hosts that vouches for it",
    "authentication": "the ways to log in that the host offers, and the one that worked",
    "login": "how long the login took, and how often a person was asked",
    "login shell": "which it is, how long one command takes, what start-up files print and where",
    "Python": "interpreters that were found, with their versions; 3.9 or newer is needed",
    "pyzmq": "whether one of them has it: tunnel and direct links need it",
    "state directory": "writable, free space, kind of file system, noexec, quota where told",
    "node directory": "the same for the head's own disk, and whether a lock holds there",
    "forwarding": "whether bytes pass through a forwarded port",
    "direct port": "whether this machine reaches a port that is opened there for a moment",
    "background": "whether a process outlives the logout: started, logged out, looked again",
    "heads": "how many hosts are behind the name, by all signs that there are",
    "server": "whether one of ours runs: version, process, addresses",
    "scheduler": "which one has its commands on the head's PATH, prelude included",
    "sacct": "whether it lists jobs with their steps, which SmartSim needs",
}


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, the verdict, what it rests on, and what to do about it."""

    name: str
    verdict: str
    evidence: str
    advice: str = ""


class Chart:
    """The findings so far; each check has one in the end, whatever happened."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, *findings: Finding) -> None:
        """Adds them; of two about one check the later counts."""
        for finding in findings:
            assert finding.name in CHECKS, finding.name
            self._found[finding.name] = finding

    def skip(self, names: Iterable[str], reason: str) -> None:
        """Says why there will be no finding of these, where there is none yet."""
        for name in names:
            self._found.setdefault(name, Finding(name, SKIPPED, reason))

    @property
    def first_failure(self) -> str:
        """The name of the first check that failed; empty where none did."""
        return next((one.name for one in self.findings if one.verdict == FAIL), "")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """In the order of the table."""
        return tuple(self._found[name] for name in CHECKS if name in self._found)
