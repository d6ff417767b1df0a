"""What ssh_config says about one host.

Read by ourselves, because paramiko's reader ignores `Include` without a word, counts
`Match` criteria it does not know as met, and asks the environment who the user is.
Like ssh, it goes through the files once, keeps the first value of each keyword, and
goes through them again where a `Match final` asks for it.

It reads files and runs `Match exec` commands; it knows nothing of connections.  What it
cannot honour and what would change who we talk to raises `UnsupportedSshConfig`.  Lists of
algorithms are passed over: ours are fixed, see `connection`.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import InvalidSettings, UnsupportedSshConfig

__all__ = ["HostConfig", "is_matching_any", "read_host_config"]

# As ssh: deeper nesting is a file that includes itself.
MAX_INCLUDE_DEPTH = 16

# A `Match exec` that takes longer is hung; ssh would wait for it for ever.
MATCH_EXEC_SECONDS = 10.0

# These may be given several times and add up.
_ADD_UP = ("identityfile", "certificatefile")

# The rest of the line belongs to a shell: quotes and '#' in it are not ours.
_COMMANDS = ("proxycommand", "knownhostscommand", "localcommand", "remotecommand")

# keyword -> the values that change nothing for us; every other one is refused.
_CANNOT_HONOUR = {
    "canonicalizehostname": ("no", "none"),
    "proxyusefdpass": ("no",),
    "knownhostscommand": ("none",),
    "revokedhostkeys": ("none",),
    "bindinterface": ("none",),
}


@dataclass
class HostConfig:
    """The answers for one host; `values` maps a keyword in lower case to its words."""

    alias: str
    local_user: str
    home: str
    values: dict[str, list[str]] = field(default_factory=dict)

    def first(self, keyword: str, default: str = "") -> str:
        """The first word of what was said about the keyword."""
        words = self.values.get(keyword)
        return words[0] if words else default

    def is_yes(self, keyword: str) -> bool:
        """Whether a yes/no keyword was switched on."""
        return self.first(keyword).lower() in ("yes", "true")

    def is_set(self, keyword: str) -> bool:
        """Whether any file, or the caller, spoke about the keyword."""
        return keyword in self.values

    @property
    def hostname(self) -> str:
        """The name to connect to: `HostName`, whose %h is what the user typed."""
        if not self.is_set("hostname"):
            return self.alias
        tokens = {"h": self.alias, "n": self.alias}
        return _replace_tokens(self.first("hostname"), tokens, "HostName")

    def expand(self, text: str, keyword: str) -> str:
        """`text` with its %-tokens replaced.  UnsupportedSshConfig for one we do not know."""
        return _replace_tokens(text, self._tokens(), keyword)

    def expand_path(self, text: str, keyword: str) -> str:
        """A file name: tokens, `~` and `${HOME}` replaced; other variables are refused."""
        text = text.replace("${HOME}", self.home)
        if "${" in text:
            raise UnsupportedSshConfig(f"{keyword} {text!r} names an environment variable")
        text = self.expand(text, keyword)
        return self.home + text[1:] if text == "~" or text.startswith("~/") else text

    def _tokens(self) -> dict[str, str]:
        full_name = socket.gethostname()
        return {
            "h": self.hostname,
            "n": self.alias,
            "p": self.first("port", "22"),
            "r": self.first("user", self.local_user),
            "u": self.local_user,
            "d": self.home,
            "l": full_name,
            "L": full_name.split(".")[0],
            "k": self.first("hostkeyalias", self.alias),
            "j": self.first("proxyjump"),
            "i": str(os.getuid()) if hasattr(os, "getuid") else "",
        }


def read_host_config(
    alias: str,
    *,
    path: str | None,
    given: dict[str, str],
    local_user: str,
    home: str,
) -> HostConfig:
    """What the files say about `alias`, under what is already `given` (it wins).

    `path` None means the user's file and then the system's; a path means only that one,
    as with `ssh -F`.  A named file that cannot be read raises InvalidSettings.
    """
    values = {keyword: [value] for keyword, value in given.items()}
    config = HostConfig(alias, local_user, home, values)
    if path is None:
        files = [(f"{home}/.ssh/config", f"{home}/.ssh"), ("/etc/ssh/ssh_config", "/etc/ssh")]
    else:
        if not os.path.isfile(path):
            raise InvalidSettings(f"ssh_config {path!r} is not a file")
        files = [(path, f"{home}/.ssh")]
    reader = _Reader(config, is_final=False)
    reader.read_all(files)
    if reader.wants_final_pass:
        _Reader(config, is_final=True).read_all(files)
    _refuse_what_we_cannot_honour(config)
    return config


def _refuse_what_we_cannot_honour(config: HostConfig) -> None:
    for keyword, harmless in _CANNOT_HONOUR.items():
        said = config.first(keyword, harmless[0])
        if said.lower() not in harmless:
            raise UnsupportedSshConfig(
                f"ssh_config sets {keyword} to {said!r}", host=config.alias, step="resolve"
            )


class _Reader:
    """One pass through the files; what it finds goes into the config."""

    def __init__(self, config: HostConfig, *, is_final: bool) -> None:
        self._config = config
        self._is_final = is_final
        # In the final pass ssh matches Host lines against what HostName said.
        self._host = config.hostname if is_final else config.alias
        self.wants_final_pass = False

    def read_all(self, files: Iterable[tuple[str, str]]) -> None:
        for path, include_base in files:
            self._read_file(path, include_base, depth=0)

    def _read_file(self, path: str, include_base: str, depth: int) -> None:
        if depth > MAX_INCLUDE_DEPTH:
            raise UnsupportedSshConfig(f"{path} is included through too many files")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().splitlines()
        except OSError:
            return  # as ssh: a missing or unreadable file says nothing
        is_active = True
        for number, line in enumerate(lines, 1):
            keyword, rest = _split_keyword(line)
            where = f"{path}:{number}"
            if keyword == "host":
                is_active = is_matching_any(self._host, _split_words(rest, where))
            elif keyword == "match":
                is_active = self._is_match(_split_words(rest, where), where)
            # A file included under a Host that does not match says nothing either.
            elif keyword == "include" and is_active:
                self._include(_split_words(rest, where), include_base, depth)
            elif keyword and is_active:
                self._keep(keyword, rest, where)

    def _include(self, patterns: Iterable[str], include_base: str, depth: int) -> None:
        for pattern in patterns:
            expanded = self._config.expand_path(pattern, "Include")
            for path in sorted(glob.glob(os.path.join(include_base, expanded))):
                self._read_file(path, include_base, depth + 1)

    def _keep(self, keyword: str, rest: str, where: str) -> None:
        values = self._config.values
        words = [rest] if keyword in _COMMANDS else _split_words(rest, where)
        if not words:
            raise UnsupportedSshConfig(f"{where}: {keyword} has no value")
        if keyword in _ADD_UP:
            known = values.setdefault(keyword, [])
            known.extend(word for word in words if word not in known)
            return
        # Whichever of the two comes first wins over the other.
        if keyword in ("proxyjump", "proxycommand") and (
            "proxyjump" in values or "proxycommand" in values
        ):
            return
        values.setdefault(keyword, words)

    def _is_match(self, words: Sequence[str], where: str) -> bool:
        criteria = list(words)
        while criteria:
            name, _, value = criteria.pop(0).partition("=")
            is_negated, name = name.startswith("!"), name.lstrip("!").lower()
            if name == "all":
                return not is_negated
            if name in ("final", "canonical"):
                self.wants_final_pass |= name == "final"
                is_met = self._is_final
            else:
                if not value:
                    value = criteria.pop(0) if criteria else ""
                is_met = self._is_met(name, value, where)
            if is_met == is_negated:
                return False
        return True

    def _is_met(self, name: str, value: str, where: str) -> bool:
        config = self._config
        if name == "exec":
            return self._is_command_true(config.expand(value, "Match exec"), where)
        subjects = {
            "host": config.hostname if config.is_set("hostname") else self._host,
            "originalhost": config.alias,
            "user": config.first("user", config.local_user),
            "localuser": config.local_user,
        }
        if name not in subjects:
            raise UnsupportedSshConfig(
                f"{where}: `Match {name}` is not understood", host=config.alias, step="resolve"
            )
        return is_matching_any(subjects[name], value.split(","))

    def _is_command_true(self, command: str, where: str) -> bool:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=MATCH_EXEC_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnsupportedSshConfig(
                f"{where}: the `Match exec` command did not end within {MATCH_EXEC_SECONDS:.0f} s",
                host=self._config.alias,
                step="resolve",
            ) from None
        return done.returncode == 0


def is_matching_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether `name` fits the pattern list of OpenSSH: `*`, `?`, and `!` which vetoes."""
    is_match = False
    for pattern in patterns:
        # No sets of characters there: a bracket is a bracket.
        literal = pattern.lstrip("!").lower().replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), literal):
            if pattern.startswith("!"):
                return False
            is_match = True
    return is_match


def _split_keyword(line: str) -> tuple[str, str]:
    found = re.match(r'\s*"?([A-Za-z0-9]+)"?(?:\s*=\s*|\s+|$)(.*)', line)
    return (found.group(1).lower(), found.group(2).strip()) if found else ("", "")


def _split_words(text: str, where: str) -> list[str]:
    """Words as ssh cuts them: quotes of both kinds, four escapes, '#' begins a comment."""
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
        elif char.isspace():
            words, word, is_started = ([*words, word] if is_started else words), "", False
        elif char == "#" and not is_started:
            return words
        else:
            word, is_started = word + char, True
        position += 1
    if quote:
        raise UnsupportedSshConfig(f"{where}: a quote is not closed")
    return [*words, word] if is_started else words


def _replace_tokens(text: str, tokens: dict[str, str], keyword: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        letter = found.group(1)
        if letter == "%":
            return "%"
        if letter not in tokens:
            raise UnsupportedSshConfig(f"{keyword} uses the token %{letter}")
        return tokens[letter]

    return re.sub(r"%(.?)", replaced, text)
