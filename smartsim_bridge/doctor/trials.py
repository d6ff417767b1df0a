"""What only an attempt can tell: does a channel open, is a port reached, does a process stay?

Each leaves the head as it was, and what runs there for a moment has a limited life of its
own, so that it ends too when this program is killed in the middle.  Gathers; what it means
is said in `verdicts`.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Protocol

from ..bootstrap.plan import LOOPBACK, listen_addresses
from ..bootstrap.script import assignments
from ..bootstrap.shell import Shell
from ..deadline import Deadline
from ..errors import NobodyListening, ProbeFailed

__all__ = ["Forwarder", "Listener", "Survivor", "addresses_to_try", "knock", "try_forwarding"]

FORWARD_SECONDS = 15.0
# A port that is dropped on the way costs this much.
KNOCK_SECONDS = 4.0
# The listener's own end, should nobody come and end it.
LISTEN_SECONDS = 15
# The detached process ends by itself after this long: more than a slow second login takes.
SURVIVOR_SECONDS = 45
# logind ends what is left of a session a moment after the connection.
SETTLE_SECONDS = 1

BANNER_BYTES = 64


class _Tunnel(Protocol):
    endpoint: str

    def close(self) -> None:
        """Ends it."""


class Forwarder(Protocol):
    """What is needed of an SSH connection here."""

    def forward(self, host: str, port: int, *, directory: str, deadline: Deadline) -> _Tunnel:
        """A local endpoint for a port of the host."""


# --- forwarding ---------------------------------------------------------------------------


def try_forwarding(connection: Forwarder, port: int, directory: str, deadline: Deadline) -> str:
    """Asks the host's own sshd for its banner, through a forwarded port; the proof in words.

    Raises ForwardingRefused, SshFailed.
    """
    limit = deadline.within(FORWARD_SECONDS)
    place = f"{LOOPBACK}:{port}"
    try:
        tunnel = connection.forward(LOOPBACK, port, directory=directory, deadline=limit)
    except NobodyListening:
        # The host has tried, so it may; only its sshd is not where we thought.
        return f"allowed: the host tried {place}, where nobody listens"
    try:
        banner = _first_words(tunnel.endpoint, limit)
    finally:
        tunnel.close()
    if banner.startswith(b"SSH-"):
        return f"a channel to {place} carried the banner of its sshd"
    return f"a channel to {place} opened; nothing came through it"


def _first_words(endpoint: str, deadline: Deadline) -> bytes:
    kind, _, place = endpoint.partition("://")
    try:
        with _connected(kind, place, deadline) as stream:
            return stream.recv(BANNER_BYTES)
    except OSError:
        return b""


def _connected(kind: str, place: str, deadline: Deadline) -> socket.socket:
    if kind != "ipc":
        host, _, port = place.rpartition(":")
        return socket.create_connection((host, int(port)), deadline.at_most(FORWARD_SECONDS))
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(deadline.at_most(FORWARD_SECONDS))
        stream.connect(place)
    except BaseException:
        stream.close()
        raise
    return stream


# --- direct ports -------------------------------------------------------------------------


def addresses_to_try(ssh_connection: str) -> tuple[str, ...]:
    """Where a server would listen besides loopback; loopback where we came in by it.

    Empty where the head was reached at a public address: no port of ours faces the internet.
    """
    addresses = [one for one in listen_addresses(ssh_connection) if one != LOOPBACK]
    parts = ssh_connection.split()
    came_by_loopback = len(parts) == 4 and (parts[2].startswith("127.") or parts[2] == "::1")
    return tuple(addresses) or ((LOOPBACK,) if came_by_loopback else ())


# Says port and pid, then greets whoever comes until its time is over.
_LISTENER = """
import os, signal, socket, sys
address, word, seconds = sys.argv[1:]
door = socket.socket()
door.bind((address, 0))
door.listen(5)
pid = os.fork()
if pid:
    sys.stdout.write("%d %d" % (door.getsockname()[1], pid))
    sys.stdout.flush()
    os._exit(0)
signal.alarm(int(seconds))
null = os.open(os.devnull, os.O_RDWR)
for descriptor in range(3):
    os.dup2(null, descriptor)
while True:
    caller, _ = door.accept()
    caller.sendall(word.encode())
    caller.close()
"""

# A pid alone may belong to another process by the time that we end it; and where init asks for
# no status, what has ended stays in the table.
_START_OF = """
start_of() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    stat=${stat##*")" }
    case $stat in [ZX]*) return ;; esac
    set -- $stat
    shift 19
    echo "$1"
}
"""

_LISTEN = """
listen() {
    said=$("$python" -c "$program" "$address" "$word" "$seconds" 2>&1)
    echo "$nonce listens $said $(start_of "${said##* }")"
}
hush() {
    [ "$(start_of "$pid")" = "$start" ] && kill "$pid"
}
"""


class Listener:
    """A port that is open on the head for a moment; leaving the context closes it.

    Raises ProbeFailed where it cannot be opened.
    """

    def __init__(self, shell: Shell, python: str, address: str) -> None:
        self._shell = shell
        # Everybody on the head can read it: it proves who answers, and opens nothing.
        self.word = secrets.token_hex(8)
        values = assignments(
            nonce=shell.nonce,
            python=python,
            program=_LISTENER,
            address=address,
            word=self.word,
            seconds=str(LISTEN_SECONDS),
        )
        said = self._ask(values, "listen")
        found = re.search(rf"{shell.nonce} listens (\d+) (\d+) (\d+)", said)
        if found is None:
            complaint = said.strip().rpartition("\n")[2]
            raise ProbeFailed(
                f"no port could be opened on {address}: {complaint}",
                host=shell.host,
                step="direct port",
            )
        self.address, self.port = address, int(found[1])
        self._pid, self._start = found[2], found[3]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(assignments(pid=self._pid, start=self._start), "hush")

    def _ask(self, values: str, function: str) -> str:
        body = values + _START_OF + _LISTEN
        return self._shell.ask(body, function, step="direct port", failure=ProbeFailed).text


def knock(listener: Listener) -> str:
    """Tries the listener from here: "open", "refused", "silent", or what else answered."""
    try:
        with socket.create_connection((listener.address, listener.port), KNOCK_SECONDS) as stream:
            said = stream.recv(BANNER_BYTES)
    except (socket.timeout, TimeoutError):
        return "silent"
    except OSError as error:
        # Some firewalls say no by ICMP instead of a reset.
        return "refused" if isinstance(error, ConnectionError) else f"refused: {error.strerror}"
    return "open" if said == listener.word.encode() else "is answered by another program"


# --- the logout ---------------------------------------------------------------------------

_LEAVE = """
leave() {
    detach=
    command -v setsid >/dev/null 2>&1 && detach=setsid
    (trap '' HUP; exec $detach sleep "$seconds") </dev/null >/dev/null 2>&1 &
    pid=$!
    echo "$nonce left $pid $(start_of $pid)"
}
look() {
    sleep "$settle"
    if [ "$(uname -n)" = "$host" ] && [ "$(start_of "$pid")" = "$start" ]; then
        kill "$pid"
        echo "$nonce there on $(uname -n)."
    else
        echo "$nonce gone on $(uname -n)."
    fi
}
"""


@dataclass(frozen=True)
class Survivor:
    """A process that was started on `host`, detached, to be looked for after a logout."""

    host: str
    pid: str
    start: str
    born: float

    @classmethod
    def leave(cls, shell: Shell, host: str) -> Survivor:
        """Starts it.  Raises ProbeFailed."""
        values = assignments(nonce=shell.nonce, seconds=str(SURVIVOR_SECONDS))
        body = values + _START_OF + _LEAVE
        said = shell.ask(body, "leave", step="background", failure=ProbeFailed).text
        found = re.search(rf"{shell.nonce} left (\d+) (\d+)", said)
        if found is None:
            raise ProbeFailed(
                "no process could be left in the background", host=shell.host, step="background"
            )
        return cls(host, found[1], found[2], time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether it will have ended by itself before anybody could look."""
        return time.monotonic() - self.born > SURVIVOR_SECONDS - 2 * SETTLE_SECONDS

    def look(self, shell: Shell) -> tuple[bool, str]:
        """Whether it still runs, and on which host we looked; ends it.  Raises ProbeFailed."""
        values = assignments(
            nonce=shell.nonce,
            host=self.host,
            pid=self.pid,
            start=self.start,
            settle=str(SETTLE_SECONDS),
        )
        body = values + _START_OF + _LEAVE
        said = shell.ask(body, "look", step="background", failure=ProbeFailed).text
        found = re.search(rf"{shell.nonce} (there|gone) on (\S*)\.", said)
        if found is None:
            raise ProbeFailed("the second login told nothing", host=shell.host, step="background")
        return found[1] == "there", found[2]
