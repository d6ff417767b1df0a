"""Whom the user means, as the system's ssh understands it: `ssh -G` with the user's options.

Nothing of ssh_config is read here, so everything that OpenSSH honours counts.  It asks no
host anything; only a `Match exec` in the config may run something.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..deadline import Deadline
from ..errors import SshFailed, UnsupportedSshConfig
from .ask import printable
from .login import Login
from .target import checked_port, checked_user, identity_path, read_spelling

__all__ = [
    "OpensshTarget",
    "as_control_path",
    "client_environment",
    "find_ssh",
    "resolve_openssh_target",
]

# Milliseconds as a rule; a `Match exec` of the user's may take its time.
RESOLVE_SECONDS = 10.0

# Where a master is looked for when the config names no place.  Short: sun_path holds little.
SUGGESTED_CONTROL_PATH = ".ssh/ssb-%C"


@dataclass(frozen=True)
class OpensshTarget(Login):
    """One host, and what to tell ssh to get there."""

    program: str
    #: The user's options, as ssh takes them: -F, -l, -p, -i, -J.
    options: tuple[str, ...]
    ssh_config: str | None
    #: Where a master of the user's would listen.
    control_path: str
    #: The ControlPath that the user would have to name, where the config has none.
    suggested: str = ""
    #: Every keyword that this ssh knows, in lower case, and what is in force.
    keywords: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def master_command(self) -> str:
        """What a person types to log in once, for everybody who uses the same master."""
        path = ("-S", self.suggested) if self.suggested else ()
        # Not -M: that leaves the socket of a master that was killed where it lies, and then
        # logs in without being one.
        master = ("-o", "ControlMaster=auto")
        return shlex.join(["ssh", "-fN", *master, *path, *self.options, "--", self.alias])


def find_ssh() -> str | None:
    """The program, where this platform's can share a login."""
    return None if os.name == "nt" else shutil.which("ssh")


def resolve_openssh_target(
    spelled: str,
    *,
    user: str | None = None,
    ssh_port: int | None = None,
    ssh_config: str | None = None,
    identity: str | None = None,
    jump: str | None = None,
    home: str,
    deadline: Deadline,
) -> OpensshTarget:
    """The target that is meant: keywords win over the spelling, which wins over ssh_config.

    Raises InvalidSettings for what cannot be read, UnsupportedSshConfig for what ssh itself
    does not accept, and where there is no ssh that could be used.
    """
    program = _program()
    typed = read_spelling(spelled)
    user = typed.user if user is None else user
    port = typed.port if ssh_port is None else ssh_port
    options = _options(
        None if user is None else checked_user(user),
        None if port is None else checked_port(str(port)),
        ssh_config,
        None if identity is None else identity_path(identity, home),
        None if jump is None else _checked_jump(jump),
    )
    keywords = _ask_ssh([program, *options, "--", typed.host], typed.host, deadline)
    control_path, suggested = keywords.get("controlpath", "none"), ""
    if control_path == "none":
        suggested = f"{as_control_path(home)}/{SUGGESTED_CONTROL_PATH}"
        named = ["-S", suggested, *options, "--", typed.host]
        control_path = _ask_ssh([program, *named], typed.host, deadline)["controlpath"]
    return OpensshTarget(
        spelled=spelled,
        # A leading '-' was refused with the spelling.
        alias=typed.host,
        hostname=keywords["hostname"],
        port=int(keywords["port"]),
        user=keywords["user"],
        program=program,
        options=tuple(options),
        ssh_config=ssh_config,
        control_path=control_path,
        suggested=suggested,
        keywords=keywords,
    )


def as_control_path(path: str) -> str:
    """For -S, which replaces tokens in what it is given."""
    return path.replace("%", "%%")


def client_environment() -> dict[str, str]:
    """Ours, so that the agent, the ticket and the ProxyCommand work; messages in English."""
    return {**os.environ, "LC_ALL": "C"}


def _program() -> str:
    found = find_ssh()
    if found is not None:
        return found
    why = "there is no ControlMaster on Windows" if os.name == "nt" else "ssh is not on PATH"
    raise UnsupportedSshConfig(
        f"the system's ssh cannot be used: {why}",
        step="resolve",
        advice='Use ssh="paramiko", or install the OpenSSH client.',
    )


def _options(
    user: str | None,
    port: int | None,
    ssh_config: str | None,
    identity: str | None,
    jump: str | None,
) -> list[str]:
    given = {"-F": ssh_config, "-l": user, "-p": port, "-i": identity, "-J": jump}
    return [
        word for flag, value in given.items() if value is not None for word in (flag, str(value))
    ]


def _checked_jump(jump: str) -> str:
    """ssh makes a line for a shell of it, and not every version looks at it before."""
    if jump.strip().lower() in ("", "none"):
        return "none"
    for hop in jump.split(","):
        typed = read_spelling(hop)
        if typed.user is not None:
            checked_user(typed.user)
    return jump


def _ask_ssh(command: Sequence[str], host: str, deadline: Deadline) -> dict[str, str]:
    try:
        done = subprocess.run(
            [command[0], "-G", "-T", *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=client_environment(),
            timeout=deadline.at_most(RESOLVE_SECONDS),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SshFailed("`ssh -G` did not end in time", host=host, step="resolve") from None
    except OSError as error:
        raise SshFailed(
            f"ssh cannot be run: {error.strerror}", host=host, step="resolve"
        ) from error
    if done.returncode != 0:
        raise UnsupportedSshConfig(
            f"ssh does not accept its configuration: {printable(done.stderr.strip())}",
            host=host,
            step="resolve",
            advice="Mend what it names; the same `ssh` by hand says it too.",
        )
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    said = {keyword.lower(): value for keyword, _, value in reversed(list(lines))}
    if not {"hostname", "port", "user"} <= said.keys():
        raise UnsupportedSshConfig(f"{command[0]} does not speak as OpenSSH", step="resolve")
    return said
