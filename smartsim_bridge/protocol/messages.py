"""Every message that crosses a link, a frozen dataclass each, with its meaning.

A field `payload` travels raw beside the JSON header; all others are in the header.
Fields with defaults were added, or may be left out, without a new protocol version:
unknown fields are ignored by the receiver, missing ones take their default.  A change
that an old peer would misread raises `PROTOCOL_VERSION`.

Numbers on the wire: byte offsets count from the start of one stream of one command and
never wrap, so output and input can be acknowledged, deduplicated and replayed to the
byte; `command` and `session` are ids that the client draws, so a request that is sent
again is known again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

__all__ = [
    "DEFAULT_HEARTBEAT",
    "FROM_CLIENT",
    "FROM_SERVER",
    "KINDS",
    "NULL",
    "OLDEST_PROTOCOL",
    "PIPE",
    "PROTOCOL_VERSION",
    "STDERR",
    "STDOUT",
    "TO_STDOUT",
    "Bye",
    "Exited",
    "Hello",
    "Input",
    "InputTaken",
    "Inquiry",
    "Message",
    "Output",
    "OutputClosed",
    "OutputTaken",
    "Ping",
    "Pong",
    "Refusal",
    "Report",
    "Signal",
    "Start",
    "StartFailed",
    "Started",
    "Stop",
    "Stopping",
    "Terminate",
    "Welcome",
]

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1  # the oldest that this code still speaks

STDOUT, STDERR = 1, 2  # `stream` of Output: the usual file descriptors
PIPE, NULL, TO_STDOUT = "pipe", "null", "stdout"  # where a stream of a command goes

DEFAULT_HEARTBEAT = 5.0  # seconds between pings; three unanswered ones are a lost link


@dataclass(frozen=True)
class Hello:
    """Client's first word: which protocols it speaks, who it is, which session it means.

    Since 1.  `session` is drawn by the client and kept over reconnects.
    """

    oldest: int
    newest: int
    version: str
    session: str


@dataclass(frozen=True)
class Welcome:
    """Server's answer to Hello: the protocol chosen, and who answers.  Since 1."""

    protocol: int
    version: str
    host: str
    pid: int
    heartbeat: float = DEFAULT_HEARTBEAT
    why_no_zmq: str = ""
    resumed: bool = False


@dataclass(frozen=True)
class Refusal:
    """Server's other answer to Hello: it will not talk, and why.  Since 1."""

    reason: str  # "version", "limit", "stopping"
    text: str
    version: str = ""


@dataclass(frozen=True)
class Start:
    """Run a command.  Since 1.

    `command` is the client's id for it: said again while it runs, it starts nothing.  With
    `shell`, argv[0] is a command line for /bin/sh and the rest are its arguments.
    `env` is added to the server's own; `timeout` (seconds) ends the whole process group.
    Without `announce` no Started is sent: a short command then costs one answer, not two.
    """

    command: str
    argv: tuple[str, ...]
    shell: bool = False
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    keep_env: tuple[str, ...] = ()
    stdin: str = PIPE
    stdout: str = PIPE
    stderr: str = PIPE
    timeout: float | None = None
    announce: bool = True


@dataclass(frozen=True)
class Started:
    """The command runs, as process `pid` of the head, leader of its own group.  Since 1."""

    command: str
    pid: int


@dataclass(frozen=True)
class StartFailed:
    """The command could not be started: what the system said.  Since 1.

    `filename` is the program or working directory that `errno` is about.
    """

    command: str
    errno: int
    text: str
    filename: str = ""


@dataclass(frozen=True)
class Input:
    """Bytes for the command's stdin, from `offset` on; `eof`: there will be no more.  Since 1."""

    command: str
    offset: int
    eof: bool = False
    payload: bytes = b""


@dataclass(frozen=True)
class InputTaken:
    """The command's stdin took all bytes below `offset`; `broken`: it takes no more.  Since 1."""

    command: str
    offset: int
    broken: bool = False


@dataclass(frozen=True)
class Output:
    """Bytes of the command's `stream` (1, 2), from `offset` on; `eof`: it ends there.  Since 1."""

    command: str
    stream: int
    offset: int
    eof: bool = False
    payload: bytes = b""


@dataclass(frozen=True)
class OutputTaken:
    """The client has all bytes of `stream` below `offset` and grants as many again.  Since 1."""

    command: str
    stream: int
    offset: int


@dataclass(frozen=True)
class OutputClosed:
    """The client reads `stream` no more: who writes to it gets SIGPIPE.  Since 1."""

    command: str
    stream: int


@dataclass(frozen=True)
class Exited:
    """The process ended: by `code`, or by `signal`; never both.  Since 1.

    `final`: both streams have ended as well, so nothing more comes of this command.  A
    process may end while a child of its own still holds its stdout: then a first Exited
    has final=False and a second one follows.
    """

    command: str
    code: int | None
    signal: int | None
    timed_out: bool = False
    final: bool = True


@dataclass(frozen=True)
class Signal:
    """Send signal `number` to the command's whole process group.  Since 1."""

    command: str
    number: int


@dataclass(frozen=True)
class Terminate:
    """End the command: SIGTERM to its group, SIGKILL after `grace` seconds.  Since 1."""

    command: str
    grace: float


@dataclass(frozen=True)
class Inquiry:
    """How are you?  Answered by a Report with the same `request`.  Since 1."""

    request: int


@dataclass(frozen=True)
class Report:
    """The server about itself; `started` in seconds since the epoch, head's clock.  Since 1."""

    request: int
    version: str
    host: str
    pid: int
    started: float
    clients: int
    running: int
    endpoints: tuple[str, ...] = ()
    log: str = ""
    python: str = ""
    zmq: str = ""
    why_no_zmq: str = ""


@dataclass(frozen=True)
class Stop:
    """End the server, and every command with it after `grace` seconds.  Since 1."""

    grace: float = 5.0


@dataclass(frozen=True)
class Stopping:
    """The server ends now; no more requests are taken.  Since 1."""

    reason: str = ""


@dataclass(frozen=True)
class Ping:
    """Client to server, each heartbeat: still there?  Since 1."""

    number: int


@dataclass(frozen=True)
class Pong:
    """Server's answer to the Ping of the same number.  Since 1."""

    number: int


@dataclass(frozen=True)
class Bye:
    """The client leaves on purpose, which is not the same as a lost link.  Since 1."""


FromClient = Union[
    Hello, Start, Input, OutputTaken, OutputClosed, Signal, Terminate, Inquiry, Stop, Ping, Bye
]
FromServer = Union[
    Welcome, Refusal, Started, StartFailed, InputTaken, Output, Exited, Report, Stopping, Pong
]
Message = Union[FromClient, FromServer]

FROM_CLIENT: tuple[type, ...] = FromClient.__args__  # type: ignore[attr-defined]
FROM_SERVER: tuple[type, ...] = FromServer.__args__  # type: ignore[attr-defined]

# The name on the wire of each message: its class name, in a word.
KINDS: dict[str, type] = {kind.__name__: kind for kind in FROM_CLIENT + FROM_SERVER}
