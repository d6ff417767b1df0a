"""Where the target is reached: over SSH, or right here.  Blocking; used by ladder and cli.

Over SSH by one of two engines, and which is decided here.  Either is imported only when it
makes a connection.
"""

from __future__ import annotations

import glob
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ..bootstrap.host import LocalHost
from ..deadline import Deadline
from ..errors import InvalidSettings, UnsupportedSshConfig
from ..settings import Settings
from ..stages import Journey

if TYPE_CHECKING:
    from ..bootstrap.provision import Provision
    from ..ssh.ask import Ask
    from ..ssh.engine import Connection
    from ..ssh.openssh_target import OpensshTarget
    from ..ssh.target import Target

__all__ = ["local_python", "open_connection", "provision", "this_host"]

# `klist` reads one local file.
KLIST_SECONDS = 5.0


def open_connection(settings: Settings, deadline: Deadline, journey: Journey) -> Connection:
    """Logs in, or takes a login that is there.

    Raises HostUnreachable, HostKeyRefused, LoginFailed, SshFailed.
    """
    if settings.ssh in ("openssh", "master"):
        return _open_openssh(settings, deadline, journey, f'ssh="{settings.ssh}"')
    from ..ssh.openssh_target import find_ssh
    from ..ssh.target import resolve_target

    try:
        target = resolve_target(
            settings.addr,
            **_spelling(settings),
            local_user=settings.local_user,
            environment=settings.environment,
        )
        why = _why_openssh(target, settings, deadline)
    except UnsupportedSshConfig as unsupported:
        if settings.ssh == "paramiko" or find_ssh() is None:
            raise
        why = unsupported.what
    if why:
        return _open_openssh(settings, deadline, journey, why)
    from ..ssh.connection import SshConnection

    return SshConnection.open(
        target,
        ask=_ask(settings, deadline),
        host_keys=settings.host_keys,
        deadline=deadline,
        journey=journey,
    )


def _open_openssh(settings: Settings, deadline: Deadline, journey: Journey, why: str) -> Connection:
    from ..ssh.openssh import OpensshConnection

    with journey.stage("resolve") as note:
        target = _openssh_target(settings, deadline)
        note.detail = f"{target.destination} by ssh -G; {why}"
    return OpensshConnection.open(
        target,
        ask=_ask(settings, deadline),
        host_keys=settings.host_keys,
        only_master=settings.ssh == "master",
        directory=settings.runtime_directory,
        deadline=deadline,
        journey=journey,
    )


def _openssh_target(settings: Settings, deadline: Deadline) -> OpensshTarget:
    from ..ssh.openssh_target import resolve_openssh_target

    return resolve_openssh_target(settings.addr, **_spelling(settings), deadline=deadline)


def _spelling(settings: Settings) -> dict[str, Any]:
    """What both engines are told of whom the user means."""
    names = ("user", "ssh_port", "ssh_config", "identity", "jump", "home")
    return {name: getattr(settings, name) for name in names}


def _why_openssh(target: Target, settings: Settings, deadline: Deadline) -> str:
    """Why the system's ssh should make this connection; empty where paramiko does.

    Raises UnsupportedSshConfig, which says the same.
    """
    if settings.ssh != "auto":
        return ""
    from ..ssh.openssh_target import find_ssh

    can_take = find_ssh() is not None
    # Where no file names a ControlPath there is no master to ask ssh for.
    if can_take and (target.control_path or glob.glob(f"{glob.escape(settings.home)}/.ssh/ssb-*")):
        from ..ssh.openssh import live_master

        if live_master(_openssh_target(settings, deadline), deadline) is not None:
            return "your ControlMaster is live"
    from ..ssh.suitability import refuse_what_paramiko_cannot, weak_ones_wanted

    refuse_what_paramiko_cannot(target)
    if can_take and (weak := weak_ones_wanted(target)):
        return f"paramiko cannot honour {weak}"
    if can_take and target.gssapi and _has_ticket():
        return "you have a Kerberos ticket"
    return ""


def _has_ticket() -> bool:
    try:
        done = subprocess.run(
            ["klist", "-s"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=KLIST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _ask(settings: Settings, deadline: Deadline) -> Ask:
    from ..ssh.ask import default_ask

    return _unhurried(settings.ask or default_ask(), deadline)


def _unhurried(ask: Ask, deadline: Deadline) -> Ask:
    """The same questions, each in its turn, but nobody has to type against the clock."""
    from ..ssh.ask import Unattended, in_turn

    if isinstance(ask, Unattended):
        return ask

    def answer(prompt: str, secret: bool) -> str:
        with deadline.paused():
            said = in_turn(ask, prompt, secret)
        if not isinstance(said, str):
            raise InvalidSettings(f"ask= returned {type(said).__name__}, not text", step="login")
        return said

    return answer


def this_host(settings: Settings) -> LocalHost:
    """This machine as the head."""
    return LocalHost(settings.addr, home=settings.home)


def provision(settings: Settings) -> Provision | None:
    """What is to be done where the head's Python has no pyzmq; None: nothing."""
    from ..bootstrap.provision import Provision

    if not settings.provision:
        return None
    return Provision(settings.cache_directory, settings.transport in ("direct", "tunnel"))


def local_python(settings: Settings) -> str:
    """The interpreter for a server on this host: ours has what is installed beside us."""
    return settings.python or sys.executable
