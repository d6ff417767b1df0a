"""Where the target is reached: over SSH, or right here.  Blocking; used by ladder and cli.

paramiko is imported only when a connection is really made.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..bootstrap.host import LocalHost
from ..deadline import Deadline
from ..errors import InvalidSettings
from ..settings import Settings
from ..stages import Journey

if TYPE_CHECKING:
    from ..bootstrap.provision import Provision
    from ..ssh.ask import Ask
    from ..ssh.connection import SshConnection

__all__ = ["local_python", "open_connection", "provision", "this_host"]


def open_connection(settings: Settings, deadline: Deadline, journey: Journey) -> SshConnection:
    """Logs in.  Raises HostUnreachable, HostKeyRefused, LoginFailed, SshFailed."""
    from ..ssh.ask import default_ask
    from ..ssh.connection import SshConnection
    from ..ssh.target import resolve_target

    target = resolve_target(
        settings.addr,
        user=settings.user,
        ssh_port=settings.ssh_port,
        ssh_config=settings.ssh_config,
        identity=settings.identity,
        jump=settings.jump,
        local_user=settings.local_user,
        home=settings.home,
        environment=settings.environment,
    )
    return SshConnection.open(
        target,
        ask=_unhurried(settings.ask or default_ask(), deadline),
        host_keys=settings.host_keys,
        deadline=deadline,
        journey=journey,
    )


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
