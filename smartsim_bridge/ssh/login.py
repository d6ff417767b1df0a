"""Whom a connection leads to, as far as both engines say it in the same words.

Knows nothing of how either finds that out, or gets there.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Login"]


@dataclass(frozen=True)
class Login:
    """One user on one host; see `engine.Destination`."""

    spelled: str
    alias: str
    hostname: str
    port: int
    user: str

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called: by the user, and by ssh_config."""
        return tuple(dict.fromkeys((self.alias, self.hostname)))

    @property
    def destination(self) -> str:
        """`user@host:port`, an IPv6 address in brackets."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.user}@{host}:{self.port}"
