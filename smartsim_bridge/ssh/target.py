"""Whom we are to reach: the user's spelling, joined with what ssh_config says.

`resolve_target` is the only place where keywords, spelling and config meet; everything
after it sees one frozen `Target`.  It asks no name server and opens no connection; home
directory and local user name come in from `settings`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import InvalidSettings, UnsupportedSshConfig
from .host_config import HostConfig
from .login import Login
from .ssh_config import read_host_config

__all__ = [
    "Spelling",
    "Target",
    "checked_port",
    "checked_user",
    "identity_path",
    "read_spelling",
    "resolve_target",
]

SSH_PORT = 22

# In ssh's order: a host may know us by any of them, and treat us accordingly.
DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")

# As ssh, without what paramiko no longer speaks (GSSAPI) and what needs root (hostbased).
DEFAULT_METHODS = ("publickey", "keyboard-interactive", "password")

# Keywords whose lists restrict what is offered to the host.
ALGORITHM_LISTS = (
    "Ciphers",
    "HostKeyAlgorithms",
    "KexAlgorithms",
    "MACs",
    "PubkeyAcceptedAlgorithms",
)

# Empty, an option, or more than a name to a shell.
_NO_USER = re.compile(r"""^$|^-|[\s\x00-\x1f\x7f'`";&<>|(){}]|\\$""")

# A chain of jump hosts this long is a config that names itself.
MAX_HOPS = 8


@dataclass(frozen=True)
class Target(Login):
    """One host and all that is needed to log in there."""

    identities: tuple[str, ...] = ()
    identities_only: bool = False
    host_key_name: str = ""
    known_hosts: tuple[str, ...] = ()
    jump: tuple[str, ...] = ()
    proxy_command: str | None = None
    # The jump hosts, nearest first, resolved like any other target.
    hops: tuple[Target, ...] = ()
    # None: the agent of the environment; "none": no agent; else the path of its socket.
    identity_agent: str | None = None
    methods: tuple[str, ...] = DEFAULT_METHODS
    # Where a new key is written to, and whether the host's name is hidden there.
    new_keys_file: str | None = None
    hashes_names: bool = False
    address_family: str = "any"
    bind_address: str | None = None
    # False under BatchMode: then nobody is asked for anything.
    may_ask: bool = True
    # False under StrictHostKeyChecking yes: then nobody is asked about an unknown key.
    may_ask_about_key: bool = True
    # (keyword, list) as in ssh_config, with its `+`, `-` and `^`.
    algorithms: tuple[tuple[str, str], ...] = ()
    # What runs the ProxyCommand.
    shell: str = "/bin/sh"
    # Whether Kerberos may log in, where there is a ticket that we do not see.
    gssapi: bool = False
    # A ControlPath of the config's, as it stands there: a master may be live.
    control_path: str | None = None


@dataclass(frozen=True)
class Spelling:
    """What a target's text says by itself."""

    host: str
    user: str | None
    port: int | None


@dataclass(frozen=True)
class _Circumstances:
    """What is the same for the target and for the jump hosts on the way to it."""

    ssh_config: str | None
    local_user: str
    home: str
    environment: Mapping[str, str]
    passed: tuple[str, ...] = field(default=())


def resolve_target(
    spelled: str,
    *,
    user: str | None = None,
    ssh_port: int | None = None,
    ssh_config: str | None = None,
    identity: str | None = None,
    jump: str | None = None,
    local_user: str,
    home: str,
    environment: Mapping[str, str] | None = None,
) -> Target:
    """The target that is meant: keywords win over the spelling, which wins over ssh_config.

    Raises InvalidSettings for what cannot be read, UnsupportedSshConfig for what the config
    asks of us in vain.  `jump` is a comma-separated chain, or "none".  `environment` is what
    variables in ssh_config stand for.
    """
    around = _Circumstances(ssh_config, local_user, home, environment or {})
    return _resolve(spelled, user, ssh_port, identity, jump, around)


def _resolve(
    spelled: str,
    user: str | None,
    port: int | None,
    identity: str | None,
    jump: str | None,
    around: _Circumstances,
) -> Target:
    typed = read_spelling(spelled)
    given = _given(typed.user if user is None else user, typed.port if port is None else port, jump)
    config = read_host_config(
        typed.host,
        path=around.ssh_config,
        given=given,
        local_user=around.local_user,
        home=around.home,
        environment=around.environment,
    )
    _refuse_what_depends(config)
    hostname = config.hostname
    port = config.port or SSH_PORT
    chain = _jump_chain(config)
    own, common = _known_hosts(config)
    if f"{hostname}:{port}" in around.passed:
        raise UnsupportedSshConfig(
            f"the jump host {typed.host} is reached through itself", host=hostname, step="resolve"
        )
    return Target(
        spelled=spelled,
        alias=typed.host,
        hostname=hostname,
        port=port,
        user=config.first("user", around.local_user),
        identities=_identities(config, identity, around.home),
        identities_only=config.is_yes("identitiesonly"),
        host_key_name=_host_key_name(config, hostname, port),
        known_hosts=own + common,
        jump=chain,
        proxy_command=_proxy_command(config),
        hops=_resolve_hops(chain, hostname, port, around),
        identity_agent=_identity_agent(config),
        methods=_methods(config),
        new_keys_file=own[0] if own else None,
        hashes_names=config.is_yes("hashknownhosts"),
        address_family=config.first("addressfamily", "any").lower(),
        bind_address=config.first("bindaddress") or None,
        may_ask=not config.is_yes("batchmode"),
        may_ask_about_key=not config.is_yes("stricthostkeychecking"),
        algorithms=tuple(
            (name, config.first(name.lower()))
            for name in ALGORITHM_LISTS
            if config.is_set(name.lower())
        ),
        shell=around.environment.get("SHELL") or "/bin/sh",
        control_path=_control_path(config),
        gssapi=config.is_yes("gssapiauthentication"),
    )


def read_spelling(spelled: str) -> Spelling:
    """Cuts `[ssh://][user@]host[:port]`; an IPv6 address stands in brackets, or alone."""
    text = spelled.strip()
    if text.lower().startswith("ssh://"):
        text = text[len("ssh://") :].rstrip("/")
    user, at, place = text.rpartition("@")
    if at and not user:
        raise _malformed(spelled, "nothing stands before the @")
    if _is_ipv6(place):
        return Spelling(_checked_host(place, spelled), user or None, None)
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?", place)
    if found is None:
        raise _malformed(spelled, "an IPv6 address with a port goes into brackets: [::1]:22")
    if found["v6"] is not None and not _is_ipv6(found["v6"]):
        raise _malformed(spelled, "only an IPv6 address goes into brackets")
    port = None if found["port"] is None else checked_port(found["port"], spelled)
    host = found["host"] if found["v6"] is None else found["v6"]
    return Spelling(_checked_host(host, spelled), user or None, port)


def _checked_host(host: str, spelled: str) -> str:
    # A leading '-' would be an option to every program the name is handed to.
    if not host or host.startswith("-") or re.search(r"[\s/\\'\"`$;&|<>(){}*?!,\x00-\x1f]", host):
        raise _malformed(spelled, "no host name can be read from it")
    return host


def checked_user(user: str) -> str:
    """The name as it was given, where it may stand in a ProxyCommand.  Raises InvalidSettings.

    As ssh since 9.6, where somebody typed it: a `%r` puts it into a line for a shell.
    """
    if _NO_USER.search(user):
        raise InvalidSettings(f"{user!r} is not a user name", step="resolve")
    return user


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text.partition("%")[0]), ipaddress.IPv6Address)
    except ValueError:
        return False


def checked_port(text: str, spelled: str | None = None) -> int:
    """The number.  Raises InvalidSettings, which names what was `spelled`."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise _malformed(spelled if spelled is not None else text, f"{text!r} is not a port number")


def _refuse_what_depends(config: HostConfig) -> None:
    """What is harmless in one place and not in another."""
    user = config.first("user")
    if "user" in config.places and ("%" in user or "${" in user):
        raise config.unsupported("User", f"what {user!r} means depends on the version of ssh")
    if not _methods(config):
        raise config.unsupported("PreferredAuthentications", "no way to log in is left")


def _malformed(spelled: str, why: str) -> InvalidSettings:
    return InvalidSettings(
        f"the target {spelled!r} is malformed: {why}",
        step="resolve",
        advice="Write login1, me@login1, me@login1:2222, [::1]:22 or an alias of ssh_config.",
    )


def _given(user: str | None, port: int | None, jump: str | None) -> dict[str, str]:
    """What the caller said, in the words of ssh_config, so that nothing there overrides it."""
    given = {} if user is None else {"user": checked_user(user)}
    if port is not None:
        given["port"] = str(checked_port(str(port)))
    if jump is not None:
        given["proxyjump"] = jump
    return given


def _host_key_name(config: HostConfig, hostname: str, port: int) -> str:
    # An alias is taken as it is, without the port, like ssh.
    if config.is_set("hostkeyalias"):
        return config.first("hostkeyalias").lower()
    return hostname if port == SSH_PORT else f"[{hostname}]:{port}"


def _identities(config: HostConfig, identity: str | None, home: str) -> tuple[str, ...]:
    if identity is not None:
        return (identity_path(identity, home), *_configured_identities(config))
    if config.is_set("identityfile"):
        return _configured_identities(config)
    return tuple(f"{home}/.ssh/{name}" for name in DEFAULT_IDENTITIES)


def identity_path(identity: str, home: str) -> str:
    """The key file that the caller named.  Raises InvalidSettings where there is none."""
    path = os.path.join(home, identity[2:]) if identity.startswith("~/") else identity
    if not os.path.isfile(path):
        raise InvalidSettings(f"the identity {identity!r} is not a file", step="resolve")
    return path


def _configured_identities(config: HostConfig) -> tuple[str, ...]:
    words = config.values.get("identityfile", [])
    return tuple(
        config.expand_path(word, "IdentityFile") for word in words if word.lower() != "none"
    )


def _identity_agent(config: HostConfig) -> str | None:
    said = config.first("identityagent", "SSH_AUTH_SOCK")
    if said == "SSH_AUTH_SOCK":
        return None
    if said.lower() == "none":
        return "none"
    if said.startswith("$") and not said.startswith("${"):
        # The old form names a whole path; where it is not set, there is no agent.
        return config.environment.get(said[1:]) or "none"
    return config.expand_path(said, "IdentityAgent")


def _known_hosts(config: HostConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The user's files and the system's; a new key goes into the first of the user's."""

    def files(keyword: str, default: list[str]) -> list[str]:
        words = config.values.get(keyword.lower(), default)
        return [word for word in words if word.lower() != "none"]

    own = files("UserKnownHostsFile", ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"])
    common = files("GlobalKnownHostsFile", [f"/etc/ssh/ssh_known_hosts{n}" for n in ("", "2")])
    return (
        tuple(config.expand_path(word, "UserKnownHostsFile") for word in own),
        # No tokens and no variables there.
        tuple(config.expand_home(word) for word in common),
    )


def _methods(config: HostConfig) -> tuple[str, ...]:
    """The ways to log in that we speak and the config does not switch off, in its order."""
    wanted = config.first("preferredauthentications", ",".join(DEFAULT_METHODS)).split(",")
    switches = {
        "publickey": "pubkeyauthentication",
        "keyboard-interactive": "kbdinteractiveauthentication",
        "password": "passwordauthentication",
    }
    return tuple(
        method for method in wanted if method in switches and not config.is_no(switches[method])
    )


def _control_path(config: HostConfig) -> str | None:
    said = config.first("controlpath", "none")
    return None if said.lower() == "none" else said


def _proxy_command(config: HostConfig) -> str | None:
    said = config.first("proxycommand", "none")
    return None if said.lower() == "none" else config.expand(said, "ProxyCommand")


def _jump_chain(config: HostConfig) -> tuple[str, ...]:
    said = config.first("proxyjump", "none").strip()
    if said.lower() in ("", "none"):
        return ()
    return tuple(hop.strip() for hop in config.expand(said, "ProxyJump").split(","))


def _resolve_hops(
    chain: tuple[str, ...], hostname: str, port: int, around: _Circumstances
) -> tuple[Target, ...]:
    """The jump hosts in the order in which they are passed.

    The first is reached as its own config says, which may name further ones; the later ones
    are reached through the one before, whatever their config says.
    """
    if not chain:
        return ()
    passed = (*around.passed, f"{hostname}:{port}")
    inner = replace(around, passed=passed)
    if len(passed) > MAX_HOPS:
        raise UnsupportedSshConfig(f"the way to {hostname} leads through too many jump hosts")
    first = _resolve(chain[0], None, None, None, None, inner)
    later = [_resolve(hop, None, None, None, "none", inner) for hop in chain[1:]]
    return (*first.hops, first, *later)
