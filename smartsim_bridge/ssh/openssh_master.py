"""A ControlMaster: the one process of ssh that is logged in, and through which all else goes.

`Control` speaks with any master through its socket, the user's or ours.  `start_master`
makes ours: a private one, as a child, that ends when we do, however we end.

What goes through a socket is called with no configuration at all, so that no LocalForward
or RemoteCommand of the user's disturbs, and with a ProxyCommand that fails: a master that
refuses a session must not lead to another login behind the user's back.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from typing import IO

from ..deadline import Deadline
from ..errors import AuthenticationRequired, CommandServerError, SshFailed
from ..stages import Journey
from .ask import Ask, Unattended
from .openssh_errors import error_from
from .openssh_target import OpensshTarget, client_environment
from .prompter import Prompter

__all__ = ["Control", "Master", "Noise", "login_of", "private_directory", "start_master"]

# Of one request to a local process.
CONTROL_SECONDS = 5.0

# ssh binds a name of 17 characters more, and then renames it; sun_path holds 104 to 108.
CONTROL_PATH_LIMIT = 84

# What ssh says of its login; later complaints need no more room than the last of them.
NOISE_LIMIT = 65536

# An ssh that was told to end says goodbye to the host, which may be gone.
END_SECONDS = 2.0

# Below the shortest idle limits of firewalls.
KEEPALIVE_SECONDS = 30

# With no limit of the caller's; sockets and ssh take no infinity.
ONE_DAY = 86400.0

READY = "smartsim_bridge: logged in"

# Waits for the end of its input, which comes with our own end, and ends ssh then.  Nothing
# of it but ssh holds the output, whose end tells that ssh has ended.
_SUPERVISOR = """
directory=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
ssh=$!
{ read -r _ <&3; kill "$ssh"; } >/dev/null 2>&1 &
watcher=$!
exec 3<&- >/dev/null 2>&1
wait "$ssh"
status=$?
kill "$watcher"
rm -rf "$directory"
exit "$status"
"""

# For the host and for every jump host on the way: ssh hands only the file on to those.
_FOR_ALL_HOSTS = {
    "NumberOfPasswordPrompts": "1",
    "ForwardAgent": "no",
    "ForwardX11": "no",
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


class Control:
    """The socket of a live master."""

    def __init__(self, target: OpensshTarget, path: str) -> None:
        self.path = path
        self._host = target.alias
        self._program = target.program

    def command(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        """An ssh that goes through the master, or nowhere."""
        quiet = ("ControlMaster=no", "BatchMode=yes", "ProxyCommand=false")
        settings = [word for setting in quiet for word in ("-o", setting)]
        head = [self._program, "-F", "/dev/null", "-S", self.path, *settings, "-T", *options]
        return [*head, "--", self._host, *words]

    @property
    def environment(self) -> dict[str, str]:
        """A shell that is quick for that ProxyCommand, whatever the user's own is."""
        return {**client_environment(), "SHELL": "/bin/sh"}

    def ask(
        self, request: str, *options: str, deadline: Deadline
    ) -> subprocess.CompletedProcess[str] | None:
        """`ssh -O request`; None where it did not end in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                self.command(options=("-O", request, *options)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=self.environment,
                timeout=deadline.at_most(CONTROL_SECONDS),
                check=False,
            )
        return None

    def is_live(self, deadline: Deadline) -> bool:
        """Whether a master of this user listens there."""
        try:
            place = os.stat(self.path)
        except OSError:
            return False
        if not stat.S_ISSOCK(place.st_mode) or place.st_uid != os.getuid():
            return False
        done = self.ask("check", deadline=deadline)
        return done is not None and done.returncode == 0

    @property
    def accepts(self) -> bool:
        """Whether somebody listens, without asking who: cheap, and says nothing of the host."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONTROL_SECONDS)
            try:
                probe.connect(self.path)
            except OSError:
                return False
        return True


class Noise:
    """The last of what a process says on standard error, and how much of it there was."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._grew = threading.Condition()
        self.total = 0

    def add(self, data: bytes) -> None:
        """What was just read."""
        with self._grew:
            self._data += data
            del self._data[:-NOISE_LIMIT]
            self.total += len(data)
            self._grew.notify_all()

    def since(self, total: int) -> str:
        """What came after there was that much."""
        with self._grew:
            skipped = max(0, len(self._data) - (self.total - total))
            return bytes(self._data[skipped:]).decode("utf-8", "replace")

    def wait_for(self, text: str, *, since: int, seconds: float) -> str:
        """The same, once `text` is in it, or after so many seconds."""
        with self._grew:
            self._grew.wait_for(lambda: text in self.since(since), seconds)
            return self.since(since)


class Master:
    """Our own: ssh below a shell that ends it when we are gone."""

    def __init__(
        self, target: OpensshTarget, arguments: list[str], directory: str, extra: dict[str, str]
    ) -> None:
        self._directory = directory
        self.noise = Noise()
        self._lock = threading.Lock()
        self.control = Control(target, f"{directory}/m")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "sh", directory, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**client_environment(), **extra},
            # No terminal to ask on, and no Ctrl-C that was meant for the program around us.
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._listener = threading.Thread(
            target=_drain, args=(self._process.stderr, self.noise), name="ssh-stderr", daemon=True
        )
        self._listener.start()

    @property
    def output(self) -> IO[bytes]:
        """Says READY once it is logged in, and ends with ssh."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """What it said on standard error, once its output has ended."""
        self._listener.join(END_SECONDS)
        return self.noise.since(0)

    def give_up(self) -> None:
        """Ends it in the middle of a login, before it says another word to the host."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it and waits for it; the directory goes with it."""
        with self._lock:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.give_up()
                self._process.wait()
            self.output.close()
            self._listener.join(END_SECONDS)
            shutil.rmtree(self._directory, ignore_errors=True)


def start_master(
    target: OpensshTarget,
    *,
    ask: Ask | None,
    host_keys: str,
    directory: str,
    deadline: Deadline,
    journey: Journey,
) -> Master:
    """Logs in once.  Raises HostUnreachable, HostKeyRefused, LoginFailed or SshFailed."""
    if isinstance(ask, Unattended):
        # ssh must not even begin what a person would have to finish.
        try:
            return start_master(
                target,
                ask=None,
                host_keys=host_keys,
                directory=directory,
                deadline=deadline,
                journey=journey,
            )
        except AuthenticationRequired as error:
            raise AuthenticationRequired(
                f"{ask.why}: {error.what}", host=error.host, step=error.step, advice=ask.advice
            ) from error
    if target.keywords.get("batchmode") == "yes":
        ask = None
    place = private_directory(directory)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        _write_config(f"{place}/config", target, host_keys, can_ask=ask is not None)
        # A prompt may come before there is a master to look at, from a jump host.
        started: list[Master] = []

        def give_up() -> None:
            started[0].give_up()

        prompter = Prompter(
            place,
            ask,
            wants_more=lambda: "with partial success" in started[0].noise.since(0),
            announce=lambda prompt: _announce(journey, prompt),
            give_up=give_up,
        )
        undo.callback(prompter.close)
        arguments = _arguments(target, place, deadline)
        master = Master(target, arguments, place, prompter.environment)
        started.append(master)
        undo.callback(master.close)
        _wait_until_ready(master, prompter, target, deadline, can_ask=ask is not None)
        undo.pop_all()
        prompter.close()
        return master
    raise AssertionError  # pragma: no cover -- the stack swallows nothing


def private_directory(parent: str) -> str:
    """A fresh directory of mode 0700, in which sockets have room and programs may run."""
    for choice in (parent, "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 -- mkdtemp is safe there
        try:
            os.makedirs(choice, mode=0o700, exist_ok=True)
            path = tempfile.mkdtemp(prefix="ssb-", dir=choice)
        except OSError:
            continue
        if len(os.fsencode(path)) < CONTROL_PATH_LIMIT - len("/m") and _may_run(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    raise SshFailed(
        "there is no directory for ssh's socket",
        step="connect",
        advice="Neither the runtime directory nor /tmp can be written to, and run from.",
    )


def _may_run(path: str) -> bool:
    """Whether the askpass program would be run there: a mount may forbid it."""
    probe = f"{path}/probe"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700))
    may_run = os.access(probe, os.X_OK)
    os.unlink(probe)
    return may_run


def _write_config(path: str, target: OpensshTarget, host_keys: str, *, can_ask: bool) -> None:
    """Ours, and then the user's: the first word counts."""
    ask_or_yes = "ask" if can_ask else "yes"
    is_strict = target.keywords.get("stricthostkeychecking") in ("true", "yes")
    checking = "accept-new" if host_keys == "accept-new" else "yes" if is_strict else ask_or_yes
    batch = "no" if can_ask else "yes"
    lines = {**_FOR_ALL_HOSTS, "StrictHostKeyChecking": checking, "BatchMode": batch}
    text = "".join(f"{keyword} {value}\n" for keyword, value in lines.items())
    text += "".join(f'Include "{file}"\n' for file in _config_files(target))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _config_files(target: OpensshTarget) -> tuple[str, ...]:
    """What ssh would have read."""
    if target.ssh_config is None:
        return ("~/.ssh/config", "/etc/ssh/ssh_config")
    return () if target.ssh_config == "none" else (os.path.abspath(target.ssh_config),)


def _arguments(target: OpensshTarget, directory: str, deadline: Deadline) -> list[str]:
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


def _wait_until_ready(
    master: Master, prompter: Prompter, target: OpensshTarget, deadline: Deadline, *, can_ask: bool
) -> None:
    heard = b""
    with selectors.DefaultSelector() as selector:
        selector.register(prompter, selectors.EVENT_READ)
        selector.register(master.output, selectors.EVENT_READ)
        while READY.encode() not in heard:
            waiting = [key.fileobj for key, _ in selector.select(deadline.at_most(ONE_DAY))]
            if prompter in waiting:
                prompter.take()
            if master.output in waiting:
                said = os.read(master.output.fileno(), 4096)
                heard += said
                if not said:
                    raise _failure(master, prompter, target, can_ask=can_ask)
            elif deadline.is_over:
                raise SshFailed(
                    "the host does not answer in time", host=target.destination, step="connect"
                )


def _failure(
    master: Master, prompter: Prompter, target: OpensshTarget, *, can_ask: bool
) -> CommandServerError:
    error = error_from(master.last_words(), host=target.destination, can_ask=can_ask)
    # A host key that nobody could be asked about is refused as unknown, as without a person.
    if prompter.fault is not None and error.step != "host key":
        error = prompter.fault
        error.host, error.step = target.destination, "authenticate"
    return error


def _announce(journey: Journey, prompt: str) -> None:
    with journey.stage("touch") as note:
        note.detail = prompt


def login_of(noise: str) -> str:
    """How the host, and not a jump host before it, was convinced: "publickey, password"."""
    partial = re.findall(r'Authenticated using "([^"]+)" with partial success', noise)
    whole = re.findall(r'^Authenticated to .* using "([^"]+)"', noise, re.MULTILINE)
    return ", ".join([*partial, *whole[-1:]])


def _drain(stream: IO[bytes], kept: Noise) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while data := os.read(stream.fileno(), 32768):
            kept.add(data)
