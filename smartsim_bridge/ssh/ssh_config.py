"""What ssh_config says about one host.

Read by ourselves, because paramiko's reader ignores `Include` without a word, counts
`Match` criteria it does not know as met, and asks the environment who the user is.
Like ssh, it goes through the files once, keeps the first value of each keyword, and
goes through them again where a `Match final` asks for it.

It reads files and runs `Match exec` commands; it knows nothing of connections.  What each
keyword means to us stands in `keywords`: an unknown one, or one that cannot be honoured,
raises `UnsupportedSshConfig`; a line that ssh would refuse, too, raises `InvalidSettings`.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidSettings, UnsupportedSshConfig
from .config_line import is_matching_any, split_criteria, split_keyword, split_words
from .host_config import NO, YES, HostConfig, as_port
from .keywords import ALIASES, CANNOT, COMMANDS, FLAGS, HONOURED, LISTS, name_of

__all__ = ["read_host_config"]

# As ssh: deeper nesting is a file that includes itself.
MAX_INCLUDE_DEPTH = 16

# A `Match exec` that takes longer is hung; ssh would wait for it for ever.
MATCH_EXEC_SECONDS = 10.0

# These may be given several times and add up.
_ADD_UP = ("identityfile", "certificatefile")

# One word each: with a second one ssh refuses the file.
_ONE_WORD = {name.lower() for name in HONOURED} - {*LISTS, *COMMANDS, "proxyjump"}

# Newer than many an ssh that is installed; which of them it knows, only it can say.
_LATER_CRITERIA = ("tagged", "localnetwork", "sessiontype", "version", "command")

_CONFIG = ".ssh/config"
_SYSTEM = "/etc/ssh"


def read_host_config(
    alias: str,
    *,
    path: str | None,
    given: dict[str, str],
    local_user: str,
    home: str,
    environment: Mapping[str, str] | None = None,
) -> HostConfig:
    """What the files say about `alias`, under what is already `given` (it wins).

    `path` None means the user's file and then the system's; a path means only that one, and
    "none" no file at all, as with `ssh -F`.  A named file that cannot be read, and a file that
    ssh would refuse, raise InvalidSettings.
    """
    values = {keyword: [value] for keyword, value in given.items()}
    config = HostConfig(alias, local_user, home, values, environment or {})
    files = _files(path, home)
    reader = _Reader(config, is_final=False)
    reader.read_all(files)
    if reader.wants_final_pass:
        # From here on ssh knows the host by the name it will connect to.
        config.values["hostname"] = [config.hostname.replace("%", "%%")]
        _Reader(config, is_final=True).read_all(files)
    _refuse_what_we_cannot_honour(config)
    return config


@dataclass(frozen=True)
class _File:
    """One of the files, where names in its Include lines begin, and who may write to it."""

    path: str
    include_base: str
    is_checked: bool
    is_users: bool = True


def _files(path: str | None, home: str) -> list[_File]:
    if path is None:
        return [
            _File(f"{home}/{_CONFIG}", f"{home}/.ssh", is_checked=True),
            _File(f"{_SYSTEM}/ssh_config", _SYSTEM, is_checked=False, is_users=False),
        ]
    if path.lower() == "none":
        return []
    if not os.path.isfile(path):
        raise InvalidSettings(f"ssh_config {path!r} is not a file")
    return [_File(path, f"{home}/.ssh", is_checked=False)]


def _refuse_what_we_cannot_honour(config: HostConfig) -> None:
    for name, (harmless, why) in CANNOT.items():
        # All words: of CertificateFile the first may be "none", and a second one a file.
        for said in config.values.get(name.lower(), ()):
            if said.lower() not in harmless:
                raise config.unsupported(name, f"{why} (it is {said!r} there)")


class _Reader:
    """One pass through the files; what it finds goes into the config."""

    def __init__(self, config: HostConfig, *, is_final: bool) -> None:
        self._config = config
        self._is_final = is_final
        # In the final pass ssh matches Host lines against what HostName said.
        self._host = config.hostname if is_final else config.alias
        self.wants_final_pass = False

    def read_all(self, files: Iterable[_File]) -> None:
        for file in files:
            self._read_file(file, depth=0, is_wanted=True)

    def _read_file(self, file: _File, depth: int, *, is_wanted: bool) -> None:
        """`is_wanted` False: only to see whether ssh would refuse it."""
        if depth > MAX_INCLUDE_DEPTH:
            raise UnsupportedSshConfig(
                f"{file.path} is included through too many files",
                host=self._config.alias,
                step="resolve",
            )
        is_active = is_wanted
        for number, line in enumerate(_lines(file, depth), 1):
            where = f"{file.path}:{number}"
            keyword, rest = split_keyword(line, where)
            if keyword == "host":
                is_active = is_wanted & self._is_host(_words(keyword, rest, where))
            elif keyword == "match":
                is_active = self._is_match(split_criteria(rest, where), where, is_wanted)
            elif keyword == "include":
                words = _words(keyword, rest, where)
                self._include(words, file, depth, where, is_wanted=is_active)
            elif keyword:
                self._keep(keyword, rest, where, is_active=is_active)

    def _is_host(self, patterns: Sequence[str]) -> bool:
        return is_matching_any(self._host, patterns, is_case_kept=True)

    def _include(
        self, patterns: Iterable[str], file: _File, depth: int, where: str, *, is_wanted: bool
    ) -> None:
        for pattern in patterns:
            if "${" in pattern or "%" in pattern:
                # Some versions replace them, the others look for a file of that name.
                raise UnsupportedSshConfig(
                    f"{where}: what Include {pattern} means depends on the version of ssh",
                    host=self._config.alias,
                    step="resolve",
                )
            if pattern.startswith("~") and not file.is_users:
                raise InvalidSettings(f"{where}: no ~ in the system's file", step="resolve")
            whole = os.path.join(file.include_base, self._config.expand_home(pattern))
            for path in sorted(glob.glob(whole)):
                # As ssh: a named file is taken as it is, and what it includes is not.
                included = replace(file, path=path, is_checked=True)
                self._read_file(included, depth + 1, is_wanted=is_wanted)

    def _keep(self, keyword: str, rest: str, where: str, *, is_active: bool) -> None:
        keyword = ALIASES.get(keyword, keyword)
        values, places = self._config.values, self._config.places
        if name_of(keyword) is None:
            if is_matching_any(keyword, self._config.first("ignoreunknown").split(",")):
                return
            raise UnsupportedSshConfig(
                f"{where}: {keyword} is no keyword that we know",
                host=self._config.alias,
                step="resolve",
                advice="Correct it, or name it in IgnoreUnknown before that line.",
            )
        words = _words(keyword, rest, where)
        if not is_active:
            return
        if keyword in _ADD_UP:
            known = values.setdefault(keyword, [])
            known.extend(word for word in words if word not in known)
        elif keyword not in values and not self._is_way_taken(keyword):
            values[keyword] = words
        else:
            return
        places.setdefault(keyword, where)

    def _is_way_taken(self, keyword: str) -> bool:
        """Of ProxyJump and ProxyCommand the first wins; no jump leaves room for a command."""
        if keyword == "proxyjump":
            return "proxycommand" in self._config.values
        if keyword == "proxycommand":
            return (
                self._config.first("proxyjump", "none").lower() != "none" or self._is_jump_given()
            )
        return False

    def _is_jump_given(self) -> bool:
        # By the caller: that switches off whatever the files say of the way.
        return "proxyjump" in self._config.values and "proxyjump" not in self._config.places

    def _is_match(self, words: Sequence[str], where: str, is_wanted: bool) -> bool:
        if not words:
            raise InvalidSettings(f"{where}: Match without a criterion", step="resolve")
        criteria, is_match = list(words), is_wanted
        while criteria:
            name = criteria.pop(0)
            is_negated, name = name.startswith("!"), name[name.startswith("!") :].lower()
            if name == "all":
                if criteria or len(words) > 3:
                    raise InvalidSettings(f"{where}: `all` stands alone", step="resolve")
                return is_match and not is_negated
            if name in ("final", "canonical"):
                self.wants_final_pass |= name == "final"
                is_met = self._is_final
            else:
                if not criteria:
                    raise InvalidSettings(f"{where}: Match {name} needs a value", step="resolve")
                # As ssh: no command is run once the answer stands.
                is_met = self._is_met(name, criteria.pop(0), where, is_match)
            is_match &= is_met != is_negated
        return is_match

    def _is_met(self, name: str, value: str, where: str, is_open: bool) -> bool:
        config, patterns = self._config, value.split(",")
        if name in ("host", "originalhost"):
            known = config.named_host if config.is_set("hostname") else self._host
            return is_matching_any(known if name == "host" else config.alias, patterns)
        if name == "user":
            user = config.first("user", config.local_user)
            return is_matching_any(user, patterns, is_case_kept=True)
        if name == "localuser":
            return is_matching_any(config.local_user, patterns, is_case_kept=True)
        if name == "exec":
            return is_open and self._is_command_true(config.expand_match(value), where)
        if name in _LATER_CRITERIA and not is_open:
            return False
        raise UnsupportedSshConfig(
            f"{where}: `Match {name}` is not understood", host=config.alias, step="resolve"
        )

    def _is_command_true(self, command: str, where: str) -> bool:
        shell = self._config.environment.get("SHELL") or "/bin/sh"
        try:
            done = subprocess.run(
                [shell, "-c", command],
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
        except OSError as error:
            raise InvalidSettings(
                f"{where}: {shell} cannot be run: {error.strerror}", step="resolve"
            ) from error
        return done.returncode == 0


def _lines(file: _File, depth: int) -> list[str]:
    """Of a file that ssh would read; it refuses one that others can write to."""
    try:
        with open(file.path, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            about = os.fstat(stream.fileno())
            if file.is_checked and not _is_ours_alone(about):
                raise InvalidSettings(
                    f"ssh_config {file.path} belongs to, or can be written by, somebody else",
                    step="resolve",
                    advice=f"chmod go-w {file.path}",
                )
            return stream.read().split("\n")
    except FileNotFoundError:
        return []
    except IsADirectoryError:
        return []
    except OSError as error:
        if depth == 0:
            return []  # as ssh: of the two usual files an unreadable one says nothing
        raise InvalidSettings(
            f"ssh_config {file.path} cannot be read: {error.strerror}", step="resolve"
        ) from error


def _is_ours_alone(about: os.stat_result) -> bool:
    if not hasattr(os, "getuid"):
        return True
    return about.st_uid in (0, os.getuid()) and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _words(keyword: str, rest: str, where: str) -> list[str]:
    """The value, cut as the keyword wants it.  Raises InvalidSettings where ssh would."""
    if keyword in COMMANDS:
        words = [rest.lstrip(" \t=")]
    elif keyword == "proxyjump":
        words = [rest.lstrip(" \t=").partition("#")[0].rstrip(" \t")]
    else:
        words = split_words(rest, where)
    if not words or not words[0]:
        raise InvalidSettings(f"{where}: {keyword} has no value", step="resolve")
    if keyword in _ONE_WORD and len(words) > 1:
        raise InvalidSettings(f"{where}: {keyword} has more than one value", step="resolve")
    if keyword in FLAGS and words[0].lower() not in (*YES, *NO):
        raise InvalidSettings(f"{where}: {keyword} is yes or no, not {words[0]!r}", step="resolve")
    if keyword == "port" and as_port(words[0]) is None:
        raise InvalidSettings(f"{where}: {words[0]!r} is not a port", step="resolve")
    if keyword == "proxyjump" and re.search(r"\s", words[0]):
        raise InvalidSettings(f"{where}: ProxyJump {words[0]!r} has a space", step="resolve")
    return words
