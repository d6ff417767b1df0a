"""Every exception of the bridge, on the head and near the user.

The docstring of each class is advice to the user: the command line prints it below
the message.  A message has three parts, in this order: what failed, on which host
and step, what to try.  This module travels to the head and imports nothing of ours.

    CommandServerError                the root; nothing else of ours is raised
    +-- InvalidSettings               (ValueError) a keyword, file or variable is wrong
    +-- HostUnreachable               no TCP connection to the SSH port
    |   +-- HostNameUnknown
    |   +-- ConnectTimedOut
    +-- HostKeyRefused                the host did not prove who it is
    |   +-- HostKeyUnknown
    |   +-- HostKeyChanged
    |   +-- HostKeyRevoked
    +-- LoginFailed                   the host did not believe who we are
    |   +-- AuthenticationFailed
    |   +-- AuthenticationRequired
    |   +-- MasterRequired
    +-- SshFailed                     SSH broke off, or spoke nonsense
    |   +-- ForwardingRefused
    |   +-- UnsupportedSshConfig
    +-- BootstrapFailed               no server could be put on the head
    |   +-- ProbeFailed
    |   |   +-- NoLoginShell
    |   |   +-- CommandsForbidden
    |   +-- NoUsablePython
    |   +-- UploadFailed
    |   +-- ProvisionFailed
    |   +-- LaunchFailed
    +-- HandshakeFailed               something answered, but it is not our server
    |   +-- NobodyListening
    |   +-- PeerSilent
    |   +-- NotCommandServer
    |   |   +-- PlaintextPeer
    |   +-- ClientKeyRefused
    |   +-- ServerKeyMismatch
    |   +-- VersionMismatch
    +-- NoServer                      none runs and none may be started
    +-- ServerElsewhere               it runs on another head of the alias, out of reach from here
    +-- NoCredentials                 it runs, but its keys cannot be read here
    +-- NoRungHeld                    every way to the head failed; each says why
    +-- LinkLost                      the link broke while something was under way
    |   +-- PeerMisbehaved            ... because what arrived breaks the protocol
    |   +-- CommandLost               ... or its server did: what became of it is not known
    +-- CommandGone                   there is nothing to attach to, or to read on
    |   +-- NoSuchCommand             (LookupError) the server knows no such id
    |   +-- CommandTaken              another client follows it now
    +-- BridgeClosed                  the bridge was closed, or belongs to another process
    +-- TransferFailed                files could not be moved
    |   +-- DiskFull                  ... for want of room
    |   +-- TransferIncomplete        ... some of them; the others were
    +-- AgentFailed                   installed shims have nobody who serves them
    +-- RequestRefused                the server will not do what was asked
    +-- ShimsUnavailable              the stand-ins for its commands cannot be put on PATH
    +-- ServerStartFailed             the server itself could not start
        +-- ServerAlreadyRuns
        +-- PortTaken
        +-- AddressNotOurs
        +-- UnsafeDirectory
        +-- LibraryTooOld
"""

from __future__ import annotations

__all__ = [
    "AddressNotOurs",
    "AgentFailed",
    "AuthenticationFailed",
    "AuthenticationRequired",
    "BootstrapFailed",
    "BridgeClosed",
    "ClientKeyRefused",
    "CommandGone",
    "CommandLost",
    "CommandServerError",
    "CommandTaken",
    "CommandsForbidden",
    "ConnectTimedOut",
    "DiskFull",
    "ForwardingRefused",
    "HandshakeFailed",
    "HostKeyChanged",
    "HostKeyRefused",
    "HostKeyRevoked",
    "HostKeyUnknown",
    "HostNameUnknown",
    "HostUnreachable",
    "InvalidSettings",
    "LaunchFailed",
    "LibraryTooOld",
    "LinkLost",
    "LoginFailed",
    "MasterRequired",
    "NoCredentials",
    "NoLoginShell",
    "NoRungHeld",
    "NoServer",
    "NoSuchCommand",
    "NoUsablePython",
    "NobodyListening",
    "NotCommandServer",
    "PeerMisbehaved",
    "PeerSilent",
    "PlaintextPeer",
    "PortTaken",
    "ProbeFailed",
    "ProvisionFailed",
    "RequestRefused",
    "ServerAlreadyRuns",
    "ServerElsewhere",
    "ServerKeyMismatch",
    "ServerStartFailed",
    "ShimsUnavailable",
    "SshFailed",
    "TransferFailed",
    "TransferIncomplete",
    "UnsafeDirectory",
    "UnsupportedSshConfig",
    "UploadFailed",
    "VersionMismatch",
]


class CommandServerError(Exception):
    """Something between this script and the head node failed; the command itself may be fine."""

    def __init__(
        self,
        what: str,
        *,
        host: str | None = None,
        step: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.host = host
        self.step = step
        self.advice = advice or self.general_advice()

    @classmethod
    def general_advice(cls) -> str:
        """What to try, where the error itself knows nothing better: the class docstring."""
        return " ".join((cls.__doc__ or "").split())

    def __str__(self) -> str:
        places = [f"host {self.host}"] if self.host else []
        places += [f"step {self.step}"] if self.step else []
        where = f" [{', '.join(places)}]" if places else ""
        return f"{self.what}{where}. {self.advice}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process pools; keyword-only fields would otherwise be lost.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(
    cls: type[CommandServerError], args: tuple[object, ...], fields: dict[str, object]
) -> CommandServerError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    error.args = args
    return error


class InvalidSettings(CommandServerError, ValueError):
    """Correct the named keyword argument, configuration file entry or environment variable."""


class HostUnreachable(CommandServerError):
    """Check that the host is up and that its SSH port is open from this machine."""


class HostNameUnknown(HostUnreachable):
    """Check the spelling, or add the host to ~/.ssh/config; a VPN may have to be up first."""


class ConnectTimedOut(HostUnreachable):
    """A firewall may drop the packets: try from the site's network, its VPN or a jump host."""


class HostKeyRefused(CommandServerError):
    """The host could not prove its identity, so nothing was sent to it."""

    def __init__(
        self,
        what: str,
        *,
        fingerprint: str = "",
        expected: tuple[str, ...] = (),
        **where: str | None,
    ) -> None:
        super().__init__(what, **where)
        self.fingerprint = fingerprint
        self.expected = expected


class HostKeyUnknown(HostKeyRefused):
    """Compare the fingerprint with the one the site publishes; then log in once with ssh,
    or pass host_keys="accept-new"."""


class HostKeyChanged(HostKeyRefused):
    """Either the site replaced the host, or somebody sits in between: ask the site before
    removing the old line from known_hosts."""


class HostKeyRevoked(HostKeyRefused):
    """known_hosts marks this key as revoked: do not connect; ask the site."""


class LoginFailed(CommandServerError):
    """Try the same login with ssh first; what works there should work here."""


class AuthenticationFailed(LoginFailed):
    """The host refused every key and answer: check user name, keys and password with
    `ssh -v`."""


class AuthenticationRequired(LoginFailed):
    """The host wants an answer from a person and there is nobody to ask: run in a terminal
    or notebook, load the key into ssh-agent, or pass ask=."""


class MasterRequired(LoginFailed):
    """Log in once with ssh and leave that connection open: ssh="master" makes no login of its
    own."""


class SshFailed(CommandServerError):
    """The SSH connection broke: try `ssh -v` to the same host."""


class ForwardingRefused(SshFailed):
    """The site forbids port forwarding: transport="auto" or "stdio" works without it."""


class UnsupportedSshConfig(SshFailed):
    """paramiko cannot do what your ssh files say: take ssh="openssh" where ssh is installed,
    override it with keyword arguments, or remove it for this host."""


class BootstrapFailed(CommandServerError):
    """The command server could not be started on the head node."""

    def __init__(self, what: str, *, noise: str = "", **where: str | None) -> None:
        super().__init__(what, **where)
        self.noise = noise

    def __str__(self) -> str:
        said = super().__str__()
        return f"{said}\nThe host said:\n{self.noise}" if self.noise else said


class ProbeFailed(BootstrapFailed):
    """The login shell did not run our script to its end: see what it said, and try
    `ssh HOST /bin/sh` by hand."""


class NoLoginShell(ProbeFailed):
    """The account exists there, but nobody may log in to it: try another login node, or ask the
    site for shell access."""


class CommandsForbidden(ProbeFailed):
    """The site lets this account or key do only what its words name (file transfer, as a rule):
    use another account, key or host, or ask the site for leave to run commands."""


class NoUsablePython(BootstrapFailed):
    """The head needs Python 3.9 or newer: name one with python="/path/to/python3", or load it
    with prelude="module load python"."""


class UploadFailed(BootstrapFailed):
    """The file could not be written on the head: check quota and permissions of the home
    directory."""


class ProvisionFailed(BootstrapFailed):
    """The head's Python has no pyzmq, and none could be brought: transport="auto" or "stdio"
    works without."""


class LaunchFailed(BootstrapFailed):
    """The server did not come up: see what it said, and `smartsim-bridge logs --addr HOST`."""


class HandshakeFailed(CommandServerError):
    """What answered is not our command server, or it does not know us."""


class NobodyListening(HandshakeFailed):
    """No server listens there: start one with autostart=True or `smartsim-bridge start`, or
    run scripts/start_cmd_server.py on the head."""


class PeerSilent(HandshakeFailed):
    """Something accepted the connection and said nothing: another program owns the port, or
    the server hangs."""


class NotCommandServer(HandshakeFailed):
    """Another program owns this port: check the port number."""


class PlaintextPeer(NotCommandServer):
    """A ZMQ peer without encryption owns this port; the bridge never talks plain text."""


class ClientKeyRefused(HandshakeFailed):
    """The server does not know our key: it was restarted, or belongs to another user; connect
    over SSH to fetch fresh credentials."""


class ServerKeyMismatch(HandshakeFailed):
    """The server at this address is not the one in the credentials: it was restarted, or is
    another one; connect over SSH to fetch fresh credentials."""


class VersionMismatch(HandshakeFailed):
    """Client and server speak different protocol versions: upgrade the older one, or stop the
    server with `smartsim-bridge stop` and start it again."""


class NoServer(CommandServerError):
    """Start one with autostart=True or `smartsim-bridge start`, or run
    scripts/start_cmd_server.py on the head."""


class ServerElsewhere(CommandServerError):
    """The login ended at another head than your server's, and no way leads from one to the
    other: name the server's head, or start one where you came out, with autostart=True
    or `smartsim-bridge start`."""


class NoCredentials(CommandServerError):
    """Direct connections need the credentials file in a home directory shared with the head;
    use transport="auto" or "tunnel" so that SSH fetches them."""


class NoRungHeld(CommandServerError):
    """Every way to the head failed; each line says why."""

    def __init__(
        self, what: str, *, reasons: tuple[tuple[str, str], ...] = (), **where: str | None
    ) -> None:
        super().__init__(what, **where)
        self.reasons = reasons

    def __str__(self) -> str:
        lines = [f"\n  {rung}: {reason}" for rung, reason in self.reasons]
        return super().__str__() + "".join(lines)


class LinkLost(CommandServerError):
    """The connection to the server broke; what was running may still run, and may have ended:
    look before you submit again."""


class PeerMisbehaved(LinkLost):
    """What arrived does not follow the protocol, so the link was cut."""


class CommandLost(LinkLost):
    """Whether it ran cannot be known, so it was not started again: look (squeue, sacct,
    `smartsim-bridge ps`) before you submit it once more."""


class CommandGone(CommandServerError):
    """The command is not to be followed any more; `smartsim-bridge ps` lists those that are."""


class NoSuchCommand(CommandGone, LookupError):
    """Check the id with `smartsim-bridge ps`; a server forgets what ended long ago."""


class CommandTaken(CommandGone):
    """Another client attached to it and reads it now; attach again to take it back."""


class BridgeClosed(CommandServerError):
    """Call init_command_server() again; after a fork, call it in the child."""


class TransferFailed(CommandServerError):
    """The files are as they were, or complete; what was under way goes on with the next attempt."""


class DiskFull(TransferFailed):
    """Make room there, or ask for a larger quota, and repeat it: files that came are complete,
    and the one for which there was no room was removed."""


class TransferIncomplete(TransferFailed):
    """All others were moved: mend what is named and repeat it; `report` tells what was done."""

    def __init__(self, what: str, *, report: object = None, **where: str | None) -> None:
        super().__init__(what, **where)
        self.report = report


class AgentFailed(CommandServerError):
    """No process of yours serves the installed shims; `smartsim-bridge shims start` at a
    terminal starts one, `smartsim-bridge shims list` tells where its log is."""


class RequestRefused(CommandServerError):
    """The server refused this request and did nothing."""


class ShimsUnavailable(CommandServerError):
    """See that the named directory is yours alone and its disk has room, or name another one
    with state_dir; shims=False does without them."""


class ServerStartFailed(CommandServerError):
    """The command server could not start here."""


class ServerAlreadyRuns(ServerStartFailed):
    """One server per user and host is enough: use it, or stop it with `smartsim-bridge stop`."""


class PortTaken(ServerStartFailed):
    """Another program listens on this port: choose another with --port, or --port 0 for any."""


class AddressNotOurs(ServerStartFailed):
    """This host has no such address: pass one of its own with --addr."""


class UnsafeDirectory(ServerStartFailed):
    """A directory that must be private belongs to somebody else or is open to others: remove
    it, or name another one."""


class LibraryTooOld(ServerStartFailed):
    """Upgrade the named library: older releases lack a security fix or feature that is needed."""
