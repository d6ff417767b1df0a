"""What ssh_config said about one host, and what its texts stand for.

Tokens, `~` and variables are replaced here, each where ssh replaces it.  Reads no file:
`ssh_config` fills it, `target` asks it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidSettings, UnsupportedSshConfig

__all__ = ["NO", "YES", "HostConfig", "as_port"]

YES, NO = ("yes", "true"), ("no", "false")

# keyword -> the tokens that ssh replaces in it; what is not named here takes all of them.
_TOKENS = {"HostName": "h", "ProxyCommand": "hknpr", "ProxyJump": "hknpr"}


@dataclass
class HostConfig:
    """The answers for one host; `values` maps a keyword in lower case to its words."""

    alias: str
    local_user: str
    home: str
    values: dict[str, list[str]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    # keyword -> file:line of its value
    places: dict[str, str] = field(default_factory=dict)

    def first(self, keyword: str, default: str = "") -> str:
        """The first word of what was said about the keyword."""
        words = self.values.get(keyword)
        return words[0] if words else default

    def is_yes(self, keyword: str) -> bool:
        """Whether a yes/no keyword was switched on."""
        return self.first(keyword).lower() in YES

    def is_no(self, keyword: str) -> bool:
        """Whether it was switched off."""
        return self.first(keyword).lower() in NO

    def is_set(self, keyword: str) -> bool:
        """Whether any file, or the caller, spoke about the keyword."""
        return keyword in self.values

    @property
    def named_host(self) -> str:
        """`HostName`, whose %h is what the user typed, else that."""
        if not self.is_set("hostname"):
            return self.alias
        return self._replace(self.first("hostname"), {"h": self.alias}, "HostName")

    @property
    def hostname(self) -> str:
        """The name to connect to: in lower case, or an address in its usual form."""
        named = self.named_host
        return _as_address(named) or named.lower()

    @property
    def port(self) -> int | None:
        """`Port`; it was checked as it was read."""
        return as_port(self.first("port")) if self.is_set("port") else None

    def expand(self, text: str, keyword: str) -> str:
        """`text` with its %-tokens replaced.  UnsupportedSshConfig for one we do not know."""
        return self._replace(text, self._tokens(self.hostname, self.alias), keyword)

    def expand_path(self, text: str, keyword: str) -> str:
        """A file name: `~`, tokens and ${variables} replaced, in one go like ssh."""
        return self._replace(self.expand_home(text), self._tokens(self.hostname, self.alias),
                             keyword, self.environment)  # fmt: skip

    def expand_home(self, text: str) -> str:
        """`~` and `~somebody` replaced."""
        if text == "~" or text.startswith("~/"):
            return self.home + text[1:]
        return os.path.expanduser(text) if text.startswith("~") else text

    def expand_match(self, command: str) -> str:
        """The command of a `Match exec`, which may run before the host has its name."""
        return self._replace(command, self._tokens(self.named_host, self.named_host), "Match exec")

    def _replace(
        self,
        text: str,
        tokens: Mapping[str, str],
        keyword: str,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        allowed = _TOKENS.get(keyword, "".join(tokens))

        def replaced(found: re.Match[str]) -> str:
            letter = found["letter"]
            if letter is None:
                return found[0] if environment is None else self._variable(found[0], keyword)
            if letter == "%":
                return "%"
            if letter == "C" and self.first("proxyjump", "none").lower() != "none":
                raise self.unsupported(keyword, "%C with ProxyJump depends on the version of ssh")
            if not letter or letter not in allowed:
                raise self.unsupported(keyword, f"the token %{letter} is not known there")
            return tokens[letter]

        return re.sub(r"\$\{[^}]*\}?|%(?P<letter>.?)", replaced, text, flags=re.DOTALL)

    def _variable(self, spelled: str, keyword: str) -> str:
        value = self.environment.get(spelled[2:-1])
        if value is None or not spelled.endswith("}"):
            raise InvalidSettings(
                f"{self._place(keyword)}{keyword} names the variable {spelled}, which is not set",
                host=self.alias,
                step="resolve",
            )
        return value

    def unsupported(self, keyword: str, why: str) -> UnsupportedSshConfig:
        """The error for a keyword whose value we cannot honour."""
        return UnsupportedSshConfig(
            f"{self._place(keyword)}paramiko cannot honour {keyword}: {why}",
            host=self.alias,
            step="resolve",
        )

    def _place(self, keyword: str) -> str:
        place = self.places.get(keyword.lower())
        return f"{place}: " if place else ""

    def _tokens(self, hostname: str, unaliased: str) -> dict[str, str]:
        """The letters; %k is the alias of the key, where there is none `unaliased`."""
        full_name = socket.gethostname()
        port, user = str(self.port or 22), self.first("user", self.local_user)
        connection = f"{full_name}{hostname}{port}{user}"
        return {
            # A name for a socket, as ssh makes it; no secret rests on it.
            "C": hashlib.sha1(connection.encode()).hexdigest(),
            "h": hostname,
            "n": self.alias,
            "p": port,
            "r": user,
            "u": self.local_user,
            "d": self.home,
            "l": full_name,
            "L": full_name.split(".")[0],
            "k": self.first("hostkeyalias").lower() or unaliased,
            "i": str(os.getuid()) if hasattr(os, "getuid") else "",
        }


def as_port(text: str) -> int | None:
    """A number or, as ssh has it, the name of a service; None: neither."""
    try:
        number = int(text) if text.isascii() and text.isdigit() else socket.getservbyname(text)
    except (OSError, UnicodeError):
        return None
    return number if 0 < number < 65536 else None


def _as_address(name: str) -> str | None:
    """The usual form of an IP address, so that 127.1 finds its line in known_hosts."""
    if "%" in name:
        return None  # its scope is part of it
    try:
        found = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])
