"""What the user asked for, as one frozen value: defaults < file < environment < arguments.

The only room of the near half that reads the environment and the configuration file; all
rooms below take values as arguments.  The file is `config.toml` in the user's configuration
directory (platformdirs), with a table [default] and tables [host.NAME]; a variable is
SMARTSIM_BRIDGE_ and the field's name in capitals.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from .errors import InvalidSettings
from .protocol.beacon import state_directory
from .protocol.polls import MAX_POLL_CACHE
from .stages import StageListener

with contextlib.suppress(ImportError):  # only on Unix
    import pwd

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT_PORT", "HOST_KEYS", "SSH_ENGINES", "TRANSPORTS", "Settings"]

DEFAULT_PORT = 5555  # of a server that a person starts by hand
TRANSPORTS = ("auto", "local", "direct", "tunnel", "stdio")
HOST_KEYS = ("strict", "accept-new")
SSH_ENGINES = ("auto", "paramiko", "openssh", "master")
PREFIX = "SMARTSIM_BRIDGE_"

Ask = Callable[[str, bool], str]


@dataclass(frozen=True)
class Settings:
    """Everything that one connect depends on.  Times in seconds.

    addr       the target: host, user@host:port, or an alias of ssh_config
    port       TCP port of the server; None: whatever its beacon says
    autostart  start a server on the head if none runs
    transport  "auto", or the one rung to take: "local", "direct", "tunnel", "stdio"
    user, ssh_port, ssh_config, identity, jump   override ssh_config
    ssh        "auto", "paramiko", "openssh", or "master": only over a live ControlMaster
    ask        answers prompts, ask(prompt, secret) -> str; None: terminal or notebook
    host_keys  "strict", or "accept-new" to append unknown keys to known_hosts
    python     the head's interpreter; None: search for one
    prelude    shell lines to run first on the head ("module load python")
    provision  put pyzmq beside the server where the head's Python has none
    poll_cache  seconds that the server which autostart starts may answer polls from; 0: never
    shims      stand-ins for the scheduler's commands on this process's PATH
    keep_env   variables of an enclosing job that commands may see all the same
    timeout    for the whole connect; answering a prompt does not count
    reconnect  how long a lost link is sought before those who wait are told of it
    on_stage   called with each `stages.Stage` as it ends
    environment  the caller's own, of which keep_env lets some pass
    state_dir  of the server, and where beacons are looked for; "": the fixed place in the home
    """

    addr: str = "127.0.0.1"
    port: int | None = None
    autostart: bool = False
    transport: str = "auto"
    user: str | None = None
    ssh_port: int | None = None
    ssh_config: str | None = None
    identity: str | None = None
    jump: str | None = None
    ssh: str = "auto"
    ask: Ask | None = field(default=None, repr=False)
    host_keys: str = "strict"
    python: str | None = None
    prelude: str | None = None
    provision: bool = False
    poll_cache: float = 0.0
    shims: bool = True
    keep_env: tuple[str, ...] = ()
    timeout: float = 30.0
    reconnect: float = 900.0
    on_stage: StageListener | None = field(default=None, repr=False)
    state_dir: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    home: str = ""
    local_user: str = ""
    runtime_dir: str = ""

    @classmethod
    def gather(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        config_file: str | Path | None = None,
        **arguments: Any,
    ) -> Settings:
        """The settings in force.  Raises InvalidSettings, naming the culprit.

        An argument that is None, or not given, leaves the word to the environment, the
        file and the default, in this order.
        """
        environ = os.environ if environ is None else environ
        file = Path(config_file) if config_file else _config_file(environ)
        given = {name: value for name, value in arguments.items() if value is not None}
        _reject_unknown(given, "keyword argument", (one.name for one in fields(cls)))
        addr = given.get("addr") or environ.get(PREFIX + "ADDR") or cls.addr
        merged = {**_from_file(file, addr), **_from_environment(environ), **given}
        checked = {name: _checked(name, value) for name, value in merged.items()}
        home = environ.get("HOME") or os.path.expanduser("~")
        checked.setdefault("environment", dict(environ))
        checked.setdefault("home", home)
        checked.setdefault("runtime_dir", environ.get("XDG_RUNTIME_DIR") or "")
        checked.setdefault("local_user", _user_name() or environ.get("USER") or "")
        return replace(cls(), **checked)

    @staticmethod
    def spoken(*, environ: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, Any]:
        """What the arguments and the environment say, as plain values to be kept for later.

        `gather` makes the same of them in another directory and another environment.  Raises
        InvalidSettings.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        _reject_unknown(given, "keyword argument", _PLAIN)
        environ = os.environ if environ is None else environ
        merged = {**_from_environment(environ), **given}
        return {name: _anywhere(name, _checked(name, value)) for name, value in merged.items()}

    @property
    def state_directory(self) -> str:
        """Where this user's servers leave their beacons, as far as this host sees them."""
        return state_directory(self.home, self.state_dir)

    @property
    def cache_directory(self) -> str:
        """Where what was fetched is kept; whoever removes it loses nothing but time."""
        return platformdirs.user_cache_dir("smartsim-bridge")

    @property
    def sync_directory(self) -> str:
        """Where it is kept what two folders had in common at the end of their last sync."""
        return os.path.join(platformdirs.user_state_dir("smartsim-bridge"), "sync")

    @property
    def runtime_directory(self) -> str:
        """Where this process may make a private directory for its sockets."""
        # After `su` or `sudo` the variable names the directory of somebody else, who could put
        # another askpass program in the place of ours.
        if self.runtime_dir and _is_private(self.runtime_dir):
            return os.path.join(self.runtime_dir, "smartsim-bridge")
        return tempfile.gettempdir()


def _is_private(directory: str) -> bool:
    """Whether only this user can put anything there."""
    try:
        found = os.stat(directory)
    except OSError:
        return False
    is_ours = os.path.isabs(directory) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _config_file(environ: Mapping[str, str]) -> Path:
    chosen = environ.get(PREFIX + "CONFIG")
    return Path(chosen or platformdirs.user_config_path("smartsim-bridge") / "config.toml")


def _from_file(file: Path, addr: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as broken:
        raise InvalidSettings(f"Cannot read {file}: {broken}", step="settings") from None
    found: dict[str, Any] = {}
    hosts = _table(content.get("host", {}), file)
    for table in (content.get("default", {}), hosts.get(addr, {})):
        # Not every field: what is no plain value cannot come from a file.
        _reject_unknown(_table(table, file), f"entry of {file}", _PLAIN)
        found.update(table)
    return found


def _anywhere(name: str, value: Any) -> Any:
    """A file that is named relative to this directory, so that it is found from elsewhere."""
    is_file = name in _FILES and not value.startswith("~") and os.path.exists(value)
    return os.path.abspath(value) if is_file else value


def _table(value: Any, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSettings(f"{file}: [default] and [host.NAME] are tables", step="settings")
    return value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for one in _PLAIN:
        text = environ.get(PREFIX + one.upper())
        if text:
            found[one] = text
    return found


def _reject_unknown(names: Mapping[str, Any], what: str, known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidSettings(f"Unknown {what}: {', '.join(unknown)}", step="settings")


def _checked(name: str, value: Any) -> Any:
    check = _CHECKS.get(name)
    if check is None:
        return value
    try:
        return check(value)
    except (TypeError, ValueError) as wrong:
        raise InvalidSettings(f"{name}={value!r}: {wrong}", step="settings") from None


def _text(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError("must be text")
    return os.fspath(value)


def _some_text(value: Any) -> str:
    if not _text(value).strip():
        raise ValueError("must not be empty")
    return _text(value)


def _port(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or not 0 < number < 65536:
        raise ValueError("must be a TCP port, 1 to 65535")
    return number


def _truth(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower())
    if found is None:
        raise ValueError("must be true or false")
    return found


def _seconds(value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return number


def _patience(value: Any) -> float:
    number = float(value)
    if not number >= 0:  # this way round for NaN
        raise ValueError("must be a number of seconds, or 0")
    return number


def _age(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= MAX_POLL_CACHE:  # this way round for NaN
        raise ValueError(f"must be a number of seconds, 0 to {MAX_POLL_CACHE:g}")
    return number


def _names(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    return tuple(_text(name).strip() for name in names)


def _one_of(allowed: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return check


def _user_name() -> str:
    """As ssh: by the password database, for after `su` or `sudo` USER may be another's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (NameError, KeyError):
        return ""  # no Unix; or a container, where a uid may be without a name


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "addr": _some_text,
    "port": _port,
    "autostart": _truth,
    "transport": _one_of(TRANSPORTS),
    "user": _some_text,
    "ssh_port": _port,
    "ssh_config": _some_text,
    "identity": _some_text,
    "jump": _text,
    "ssh": _one_of(SSH_ENGINES),
    "host_keys": _one_of(HOST_KEYS),
    "python": _some_text,
    "prelude": _text,
    "provision": _truth,
    "poll_cache": _age,
    "shims": _truth,
    "keep_env": _names,
    "timeout": _seconds,
    "reconnect": _patience,
    "state_dir": _text,
}
_PLAIN = tuple(_CHECKS)
_FILES = ("identity", "ssh_config", "state_dir")
