"""Every message that crosses a link, a frozen dataclass each, with its meaning.

A field `payload` travels raw beside the JSON header; all others are in the header.
Fields with defaults were added, or may be left out, without a new protocol version:
unknown fields are ignored by the receiver, missing ones take their default.  A change
that an old peer would misread raises `PROTOCOL_VERSION`.

Numbers on the wire: byte offsets count from the start of one stream of one command and
never wrap, so output and input can be acknowledged, deduplicated and replayed to the
byte; `command` and `session` are ids that the client draws, so a request that is sent
again is known again.

A session outlives its link.  On a new link the client greets with the same session, says
`Start` again for whatever it has not heard of, and `Attach` for the rest; the server goes
on from there, and says `Lost` where it cannot know what became of a command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

__all__ = [
    "DEFAULT_HEARTBEAT",
    "ENDED",
    "EXITED",
    "FAILED",
    "FROM_CLIENT",
    "FROM_SERVER",
    "KINDS",
    "NEVER_HEARD_OF",
    "NULL",
    "OLDEST_PROTOCOL",
    "OUTCOME_UNKNOWN",
    "OUTPUT_GONE",
    "PIPE",
    "PROTOCOL_VERSION",
    "RUNNING",
    "STDERR",
    "STDOUT",
    "TO_STDOUT",
    "UNKNOWN",
    "WAITING",
    "Attach",
    "Attached",
    "Bye",
    "CommandsEnd",
    "Detach",
    "Detached",
    "Entry",
    "Exited",
    "Forget",
    "Hello",
    "Input",
    "InputTaken",
    "Inquiry",
    "ListCommands",
    "Locate",
    "Located",
    "Lost",
    "Message",
    "Output",
    "OutputClosed",
    "OutputTaken",
    "Ping",
    "Pong",
    "Queued",
    "Refusal",
    "Replace",
    "ReplaceFailed",
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

PROTOCOL_VERSION = 2  # 2: sessions that outlive their link
OLDEST_PROTOCOL = 2  # the oldest that this code still speaks

STDOUT, STDERR = 1, 2  # `stream` of Output: the usual file descriptors
PIPE, NULL, TO_STDOUT = "pipe", "null", "stdout"  # where a stream of a command goes

DEFAULT_HEARTBEAT = 5.0  # seconds between pings

# `state` of an Entry.
WAITING, RUNNING, EXITED, ENDED, FAILED, UNKNOWN = (
    "waiting", "running", "exited", "ended", "failed", "unknown",
)  # fmt: skip

# `reason` of Lost: what the server can say of a command that it does not have.
NEVER_HEARD_OF, OUTCOME_UNKNOWN, OUTPUT_GONE = "never heard of", "outcome unknown", "output gone"


@dataclass(frozen=True)
class Hello:
    """Client's first word: which protocols it speaks, who it is, which session it means.

    Since 1.  `session` is drawn by the client and kept over reconnects.  With `wish` "stop"
    the server ends and says no more than a Refusal: any version understands that.
    """

    oldest: int
    newest: int
    version: str
    session: str
    wish: str = ""


@dataclass(frozen=True)
class Welcome:
    """Server's answer to Hello: the protocol chosen, and who answers.  Since 1.

    `resumed`: the session is known, with every request of it that ever came here.  Where it
    is not, what the client asked before may have run, and must not be asked again.
    `replaceable`: it understands Replace; `locates`: it understands Locate; `programs`: those
    of its own that a Start may name.
    """

    protocol: int
    version: str
    host: str
    pid: int
    heartbeat: float = DEFAULT_HEARTBEAT
    why_no_zmq: str = ""
    resumed: bool = False
    replaceable: bool = False
    locates: bool = False
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Server's other answer to Hello: it will not talk, and why.  Since 1."""

    reason: str  # "version", "limit", "stopping"
    text: str
    version: str = ""


@dataclass(frozen=True)
class Start:
    """Run a command.  Since 1.

    `command` is the client's id for it; `number` counts the Starts of a session from 1.  Said
    again it starts nothing: it is an Attach from the beginning.  With `shell`, argv[0] is a
    command line for /bin/sh and the rest are its arguments.  `env` is added to the server's
    own; `timeout` (seconds) ends the whole process group.  Without `announce` no Started is
    sent: a short command then costs one answer, not two.

    When its client is gone the command goes on with `keep`; else it ends after `grace`
    seconds.  None: as the server does with such programs, and such an absence.

    With `own`, argv[0] names a program of the far half itself, wherever that lies.
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
    number: int = 0
    keep: bool | None = None
    grace: float | None = None
    own: bool = False


@dataclass(frozen=True)
class Queued:
    """So many run that this one waits for its turn, behind `ahead` others.  Since 2."""

    command: str
    ahead: int


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

    `age`: where a run answered that was there already, how many seconds before the request
    it began; the answer may be as old.  0 where it was its own.
    """

    command: str
    code: int | None
    signal: int | None
    timed_out: bool = False
    final: bool = True
    age: float = 0.0


@dataclass(frozen=True)
class Attach:
    """Follow a command that is there already, whoever started it.  Since 2.

    The client has all output below the offsets and grants a window beyond them.  Answered
    by Attached, or Lost; whoever followed it before is told Detached.  With `resume` the
    client means to go on, as nobody else has come since; it is told Detached where one has.
    """

    command: str
    stdout: int = 0
    stderr: int = 0
    resume: bool = False


@dataclass(frozen=True)
class Attached:
    """What follows of the command, and from where.  Since 2.

    Output begins at `stdout` and `stderr`, later than asked where earlier bytes were not
    kept; new input at `stdin`, behind all that ever came.  `signals` counts the Signal
    messages that were obeyed since it was first started or attached to by this session;
    `pid` is 0 while it waits for its turn.
    """

    command: str
    pid: int
    stdout: int
    stderr: int
    stdin: int = 0
    signals: int = 0
    argv: tuple[str, ...] = ()
    streams: tuple[str, ...] = (PIPE, PIPE, PIPE)  # the ways of stdin, stdout, stderr


@dataclass(frozen=True)
class Detach:
    """The client lets go of the command and it goes on, as with `keep`.  Since 2."""

    command: str


@dataclass(frozen=True)
class Detached:
    """Another client follows the command now.  Since 2."""

    command: str


@dataclass(frozen=True)
class Forget:
    """The client has all that these commands had to say.  Since 2."""

    commands: tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """What became of the command cannot be told; `reason` is one of three words.  Since 2."""

    command: str
    reason: str
    text: str


@dataclass(frozen=True)
class ListCommands:
    """Which commands are there?  Answered by an Entry each, then CommandsEnd.  Since 2."""

    request: int


@dataclass(frozen=True)
class Entry:
    """One command that runs, waits or ended, of whatever client of this user.  Since 2.

    Times in seconds since the epoch, head's clock; 0 where it has not come to that.
    """

    request: int
    command: str
    argv: tuple[str, ...]
    state: str
    pid: int = 0
    code: int | None = None
    signal: int | None = None
    asked: float = 0.0
    ended: float = 0.0
    keep: bool = False
    followed: bool = False  # a client follows it now
    stdout: int = 0  # bytes it printed so far
    stderr: int = 0
    note: str = ""  # "paused: ...", or why it failed


@dataclass(frozen=True)
class CommandsEnd:
    """That was the last Entry.  Since 2."""

    request: int


@dataclass(frozen=True)
class Signal:
    """Send signal `number` to the command's whole process group.  Since 1."""

    command: str
    number: int


@dataclass(frozen=True)
class Terminate:
    """End the command: a signal to its group, SIGKILL after `grace` seconds.  Since 1."""

    command: str
    grace: float
    number: int = 15  # SIGTERM


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
    waiting: int = 0
    endpoints: tuple[str, ...] = ()
    log: str = ""
    python: str = ""
    zmq: str = ""
    why_no_zmq: str = ""
    why_no_journal: str = ""
    polls: int = 0  # asked so far, of those that may share a run
    joined: int = 0  # ... and had none of their own
    poll_cache: float = 0.0  # for how many seconds an answer counts


@dataclass(frozen=True)
class Locate:
    """Where do your commands find these programs?  Answered by Located.  Since 2.

    `payload` is what the client sees in `file`: whether the server sees the same there tells
    whether they share it.  Nothing is run, and it is no command.
    """

    request: int
    programs: tuple[str, ...] = ()
    file: str = ""
    payload: bytes = b""


@dataclass(frozen=True)
class Located:
    """The absolute path of each program that there is and that may be run.  Since 2.

    `path` is where they are looked for, without folders of shims; `shared`: the file is there,
    and has the same content; `no_accounting`: the slurm.conf by which the sacct among the
    programs knows of no job.
    """

    request: int
    programs: dict[str, str] = field(default_factory=dict)
    path: str = ""
    shared: bool = False
    no_accounting: str = ""


@dataclass(frozen=True)
class Stop:
    """End the server, and every command with it after `grace` seconds.  Since 1."""

    grace: float = 5.0


@dataclass(frozen=True)
class Replace:
    """Give way to the far half at `path`, run by `python`, with all commands.  Since 2.

    All are absolute paths on the head; without `python` it is the one that runs the server.
    `site` is a directory to import pyzmq from, where the server is to have one that has none.
    Answered by Stopping with `successor`, or by a ReplaceFailed with the same `request`.
    """

    request: int
    path: str
    python: str = ""
    site: str = ""


@dataclass(frozen=True)
class ReplaceFailed:
    """That far half cannot take over, and nothing has happened.  Since 2."""

    request: int
    text: str


@dataclass(frozen=True)
class Stopping:
    """The server ends now; no more requests are taken.  Since 1.

    `successor`: another one takes over its commands; come back to that one.
    """

    reason: str = ""
    successor: bool = False


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
    Hello, Start, Attach, Detach, Forget, Input, OutputTaken, OutputClosed, Signal, Terminate,
    Inquiry, ListCommands, Locate, Stop, Replace, Ping, Bye,
]  # fmt: skip
FromServer = Union[
    Welcome, Refusal, Queued, Started, StartFailed, Attached, Detached, Lost, InputTaken, Output,
    Exited, Report, Entry, CommandsEnd, Located, ReplaceFailed, Stopping, Pong,
]  # fmt: skip
Message = Union[FromClient, FromServer]

FROM_CLIENT: tuple[type, ...] = FromClient.__args__  # type: ignore[attr-defined]
FROM_SERVER: tuple[type, ...] = FromServer.__args__  # type: ignore[attr-defined]

# The name on the wire of each message: its class name, in a word.
KINDS: dict[str, type] = {kind.__name__: kind for kind in FROM_CLIENT + FROM_SERVER}
