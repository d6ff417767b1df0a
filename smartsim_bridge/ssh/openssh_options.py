"""What a master of our own is told: a configuration file of ours, and arguments.

What must hold for every host on the way stands in the file, since ssh hands nothing else on
to the ssh of a jump host; the user's own configuration is included behind it.
"""

from __future__ import annotations

import contextlib
import os

from ..deadline import ONE_DAY, Deadline
from .openssh_target import OpensshTarget

__all__ = ["READY", "master_arguments", "write_config"]

# Below the shortest idle limits of firewalls.
KEEPALIVE_SECONDS = 30

#: What ssh prints on its standard output once it is logged in.
READY = "smartsim_bridge: logged in"

# For the host and for every jump host on the way: ssh hands only the file on to those.
_FOR_ALL_HOSTS = {
    "NumberOfPasswordPrompts": "1",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "UpdateHostKeys": "no",
    "LogLevel": "VERBOSE",
}

# What a user's config may say for sessions of his own, and no session of ours wants.
_FOR_THE_MASTER = {
    "ClearAllForwardings": "yes",
    "ControlPersist": "no",
    "ForkAfterAuthentication": "no",
    "LocalCommand": f"echo {READY}",
    "PermitLocalCommand": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "StdinNull": "no",
    "Tunnel": "no",
}

# Younger than some ssh that is still about: given only to one that names them itself.
_YOUNG = ("ForkAfterAuthentication", "StdinNull")

# Not every ssh is built with Kerberos.  A ticket at the host would end with our connection,
# and the server there does not; whoever needs one there logs in by a ControlMaster.
_NO_TICKET = "GSSAPIDelegateCredentials"


def write_config(path: str, target: OpensshTarget, host_keys: str, *, can_ask: bool) -> None:
    """Ours, and then the user's: the first word counts."""
    ask_or_yes = "ask" if can_ask else "yes"
    is_strict = target.keywords.get("stricthostkeychecking") in ("true", "yes")
    checking = "accept-new" if host_keys == "accept-new" else "yes" if is_strict else ask_or_yes
    batch = "no" if can_ask else "yes"
    lines = {**_FOR_ALL_HOSTS, "StrictHostKeyChecking": checking, "BatchMode": batch}
    if _NO_TICKET.lower() in target.keywords:
        lines[_NO_TICKET] = "no"
    text = "".join(f"{keyword} {value}\n" for keyword, value in lines.items())
    text += _what_ssh_would_read(target)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _what_ssh_would_read(target: OpensshTarget) -> str:
    """A file that was named is copied: ssh takes it whosever it is, but not by an Include,
    which also reads its name as a pattern."""
    if target.ssh_config is None:
        return "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"
    if target.ssh_config.lower() == "none":
        return ""
    with open(target.ssh_config, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def master_arguments(target: OpensshTarget, directory: str, deadline: Deadline) -> list[str]:
    """The command of a master whose socket and configuration lie in `directory`."""
    limit = max(1, int(deadline.at_most(ONE_DAY)))
    with contextlib.suppress(ValueError):
        limit = min(limit, int(target.keywords.get("connecttimeout", "")) or limit)
    settings = {**_FOR_THE_MASTER, "ConnectTimeout": str(limit)}
    if target.keywords.get("serveraliveinterval", "0") == "0":
        settings["ServerAliveInterval"] = str(KEEPALIVE_SECONDS)
    for keyword in _YOUNG:
        if keyword.lower() not in target.keywords:
            del settings[keyword]
    options = list(target.options)
    if target.ssh_config is not None:
        del options[:2]  # -F: ours includes it
    return [
        target.program,
        *("-F", f"{directory}/config", "-M", "-S", f"{directory}/m", "-N", "-T"),
        *(word for keyword, value in settings.items() for word in ("-o", f"{keyword}={value}")),
        *options,
        "--",
        target.alias,
    ]
