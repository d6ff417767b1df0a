#!/usr/bin/env python3
"""Draws the tables and state diagrams of the documents from the code that they describe.

    python docs/draw_tables.py            rewrites what is out of date
    python docs/draw_tables.py --check    says what is, and exits with status 1

What it owns stands between the lines `<!-- drawn: NAME -->` and `<!-- end -->`; all other
text is written by people.  A test runs it with --check.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from smartsim_bridge import errors, settings  # noqa: E402
from smartsim_bridge.doctor import findings  # noqa: E402
from smartsim_bridge.protocol import beacon, conversation, lifecycle, messages  # noqa: E402
from smartsim_bridge.ssh import keywords  # noqa: E402

DRAWN = re.compile(r"(<!-- drawn: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# module, constant, unit, why.  The value is looked up.
LIMITS = (
    (
        "protocol.codec",
        "MAX_HEADER",
        "bytes",
        "JSON header; Linux's limit for argv and environment",
    ),
    ("protocol.codec", "MAX_PAYLOAD", "bytes", "raw payload of one message; a few pipes full"),
    ("protocol.codec", "MAX_FRAMES", "frames", "of one message: header, payload"),
    (
        "protocol.codec",
        "MAX_DIGITS",
        "digits",
        "of a number in a header; longer ones only cost time",
    ),
    (
        "protocol.flow",
        "WINDOW",
        "bytes",
        "under way per stream; bounds memory, and throughput per round trip",
    ),
    (
        "protocol.flow",
        "ACK_STEP",
        "bytes",
        "between acknowledgements, so that the sender never stands still",
    ),
    ("protocol.beacon", "MAX_BEACON_BYTES", "bytes", "of a beacon; a real one has under 1 KiB"),
    ("protocol.beacon", "FRESH_SECONDS", "s", "so old may the heartbeat of another host's be"),
    ("protocol.messages", "DEFAULT_HEARTBEAT", "s", "between pings"),
    (
        "client.talk",
        "MISSED_HEARTBEATS",
        "heartbeats",
        "without a word from the server: the link is lost",
    ),
    ("client.attempts", "GREETING_SECONDS", "s", "for the server's answer to Hello"),
    (
        "client.rungs",
        "DIRECT_SECONDS",
        "s",
        "for a direct connection; a handshake that has begun on a slow way gets more",
    ),
    ("client.ways", "TUNNEL_SECONDS", "s", "for a tunnel to open, and as much for its handshake"),
    (
        "client.ways",
        "KNOCK_SECONDS",
        "s",
        "for a port to take a connection, with stdio to come",
    ),
    ("client.ways", "NEIGHBOUR_SECONDS", "s", "for a server on another head to answer Hello"),
    ("client.rungs", "HOP_SECONDS", "s", "for a step from head to head, and the relay there"),
    ("client.bridge", "STATUS_SECONDS", "s", "for the answer to `status()`"),
    ("client.command", "CANCEL_GRACE", "s", "between SIGTERM and SIGKILL for a cancelled call"),
    ("remote", "CONNECT_SECONDS", "s", "for the old `init_command_server`"),
    ("server.visits", "HELLO_SECONDS", "s", "until a new link must have said who it is"),
    (
        "server.visits",
        "MISSED_HEARTBEATS",
        "heartbeats",
        "without a word from a client: its link is cut",
    ),
    ("server.options", "MAX_LINKS", "links", "of one server; each takes a task and some memory"),
    ("server.serve", "BEACON_SECONDS", "s", "between two touches of the beacon"),
    ("server.options", "IDLE_HOURS", "h", "without client and command, then the server ends"),
    (
        "server.runs",
        "REMEMBERED",
        "bytes",
        "of a stream of a poll, for those that join it late; larger ones are not joined",
    ),
    ("server.polls", "BURST", "runs", "of equal polls of several askers at once, and then ..."),
    ("server.polls", "RATE", "1/s", "... of those that find none to join"),
    ("server.polls", "CROWD_SECONDS", "s", "since two asked the same at once: the pace counts"),
    (
        "server.polls",
        "MAX_OPEN",
        "",
        "and answers that may be joined; then the oldest no more",
    ),
    (
        "protocol.polls",
        "MAX_POLL_CACHE",
        "s",
        "that an answer may be old, where the server is told",
    ),
    ("server.backlog", "MAX_RUNNING", "commands", "at once, unless `--max-commands` says else"),
    ("server.backlog", "BRIEF_PLACES", "commands", "beyond that, for polls and `scancel`"),
    ("server.backlog", "MAX_WAITING", "commands", "in the queue; one more is refused"),
    ("server.backlog", "MAX_RATE", "1/s", "commands started; see `--max-rate`"),
    ("server.descriptors", "OPEN_FILES", "files", "wanted, as far as the hard limit allows"),
    ("server.commands", "KILL_AFTER", "s", "between SIGTERM and SIGKILL when a client is gone"),
    ("server.register", "MAX_ENDED", "commands", "that ended and whose client has not come back"),
    ("server.register", "KEPT_SECONDS", "s", "that their output is kept"),
    ("server.outlets", "RETAINED", "bytes", "of a stream, for whoever attaches later"),
    ("server.spool", "MEMORY", "bytes", "of output in memory, of all commands"),
    ("server.spool", "STREAM_QUOTA", "bytes", "of one stream that nobody reads; then it waits"),
    ("server.spool", "QUOTA", "bytes", "of all streams together"),
    ("server.journal", "MAX_RECORDS", "commands", "that the journal remembers"),
    ("server.journal", "MAX_BYTES", "bytes", "of the journal; then it is written anew"),
    ("server.journal", "STORED", "bytes", "of output that a result keeps over a restart"),
    ("server.audit", "MAX_BYTES", "bytes", "of one audit file"),
    ("client.session", "FIRST_PAUSE", "s", "before the second climb after a lost link"),
    ("client.session", "LONGEST_PAUSE", "s", "between two climbs"),
    ("client.session", "REFUSED_SECONDS", "s", "for a server that is gone from its port"),
    (
        "server.processes",
        "HELD_PIPES_SECONDS",
        "s",
        "that a stranger may hold a killed command's pipes",
    ),
    ("server.logbook", "MAX_BYTES", "bytes", "of one log file; homes have quotas"),
    ("server.logbook", "KEPT", "files", "of rotated log beside the current one"),
    (
        "links.zmq_socket",
        "HANDSHAKE_MS",
        "ms",
        "for a ZMQ handshake; a stranger holds a connection no longer",
    ),
    ("links.zmq_socket", "HEARTBEAT_MS", "ms", "between libzmq's own heartbeats"),
    ("links.zmq_socket", "HEARTBEAT_TIMEOUT_MS", "ms", "without an answer to them"),
    ("links.zmq_socket", "LINGER_MS", "ms", "for a last word to leave"),
    ("links.zmq_listener", "MAX_QUIET", "connections", "that never said anything; the oldest goes"),
    ("links.stream_link", "MAX_QUIET", "connections", "the same, on the unix socket"),
    ("links.stream_link", "QUIET_SECONDS", "s", "until such a one is cut"),
    ("links.stream_link", "FIRST_LIMIT", "bytes", "of the first message, which is a greeting"),
    (
        "links.zmq_listener",
        "BACKLOG",
        "connections",
        "that may wait: many may arrive at once",
    ),
    (
        "bootstrap.shell",
        "ANSWER_LIMIT",
        "bytes",
        "of an answer; a start-up file may print for ever",
    ),
    ("bootstrap.shell", "PATIENCE", "s", "until a silent shell sees its input end"),
    ("bootstrap.noise", "MAX_LINES", "lines", "of the head's noise in an error"),
    ("ssh.dialling", "ONE_ADDRESS_SECONDS", "s", "for one of several addresses of a host"),
    ("ssh.dialling", "RESOLVE_SECONDS", "s", "for the name server"),
    (
        "ssh.connection",
        "KEEPALIVE_SECONDS",
        "s",
        "between keepalives; below the idle limits of firewalls",
    ),
    ("ssh.connection", "PIPE_SECONDS", "s", "for the start of a command through SSH"),
    ("ssh.execution", "OPEN_SECONDS", "s", "for an SSH session to open"),
    ("ssh.tunnel", "PROOF_SECONDS", "s", "for the first channel to the forwarded port"),
    (
        "ssh.socket_directory",
        "PATH_LIMIT",
        "bytes",
        "of the tunnel's socket path; sun_path holds 104 to 108",
    ),
    ("ssh.openssh_target", "RESOLVE_SECONDS", "s", "for `ssh -G`, with a `Match exec` in it"),
    ("ssh.openssh_control", "CONTROL_SECONDS", "s", "for a request to a ControlMaster"),
    ("ssh.openssh_forward", "PROOF_SECONDS", "s", "for the first channel through a ControlMaster"),
    ("ssh.prompter", "MAX_PROMPTS", "prompts", "of one login by the system's ssh"),
    ("ssh.auth", "MAX_STEPS", "steps", "of one login; sites want two or three"),
    ("ssh.ssh_config", "MAX_INCLUDE_DEPTH", "files", "that include one another, as in ssh"),
    ("ssh.ssh_config", "MATCH_EXEC_SECONDS", "s", "for a `Match exec` command"),
    ("ssh.target", "MAX_HOPS", "hosts", "in a chain of jump hosts"),
)


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 where something was out of date and had to stay so."""
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text("utf-8")
        after = DRAWN.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], before)
        if after != before:
            stale.append(path.relative_to(DOCS.parent))
            if "--check" not in arguments:
                path.write_text(after, "utf-8")
    for path in stale:
        sys.stdout.write(f"{path} {'is out of date' if '--check' in arguments else 'redrawn'}\n")
    return int(bool(stale) and "--check" in arguments)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


# --- the state machines


State = TypeVar("State", bound=enum.Enum)
Input = TypeVar("Input", bound=enum.Enum)


def _machine(table: Mapping[tuple[State, Input], State], first: State) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, what), following in table.items():
        arrows.setdefault((state.name, following.name), []).append(what.value)
    drawn = [f"    {one} --> {other}: {', '.join(words)}" for (one, other), words in arrows.items()]
    picture = "\n".join(
        ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}", *drawn, "```"]
    )
    rows = [
        (state.name, str(what.value), following.name) for (state, what), following in table.items()
    ]
    return f"{picture}\n\n{_table(('state', 'input', 'next state'), rows)}"


def _conversation() -> str:
    return _machine(conversation.TABLE, conversation.State.NEW)


def _lifecycle() -> str:
    return _machine(lifecycle.TABLE, lifecycle.State.REQUESTED)


# --- messages, beacon, errors, limits


def _fields(kind: type) -> list[str]:
    named = []
    for one in dataclasses.fields(kind):
        default = one.default
        if default is dataclasses.MISSING and one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        shown = "" if default is dataclasses.MISSING else f" = {default!r}"
        named.append(f"`{one.name}: {one.type}{shown}`")
    return named


def _meaning(kind: type) -> str:
    """Its docstring, on one line."""
    return (
        " ".join((inspect.getdoc(kind) or "").split())
        .replace(" Since 1.", "")
        .replace(" Since 2.", "")
    )


def _messages_of(kinds: tuple[type, ...]) -> str:
    rows = [(f"`{kind.__name__}`", _meaning(kind), "<br>".join(_fields(kind))) for kind in kinds]
    return _table(("message", "meaning", "fields"), rows)


def _protocol_numbers() -> str:
    return (
        f"Protocol version: {messages.PROTOCOL_VERSION}; the oldest that this release speaks: "
        f"{messages.OLDEST_PROTOCOL}.  Beacon format: {beacon.FILE_FORMAT}.\n"
    )


def _beacon_fields() -> str:
    return "\n".join(f"- {one}" for one in _fields(beacon.Beacon)) + "\n"


def _errors() -> str:
    rows = []
    for kind in _depth_first(errors.CommandServerError):
        above = [base for base in kind.__mro__[1:] if issubclass(base, errors.CommandServerError)]
        indent = "&nbsp;&nbsp;&nbsp;" * len(above)
        rows.append((f"{indent}`{kind.__name__}`", kind.general_advice()))
    return _table(("error", "what to do"), rows)


def _depth_first(kind: type[errors.CommandServerError]) -> list[type[errors.CommandServerError]]:
    found = [kind]
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            found += _depth_first(below)
    return found


def _limits() -> str:
    rows = []
    for module, name, unit, why in LIMITS:
        value = getattr(import_module(f"smartsim_bridge.{module}"), name)
        number = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        rows.append((f"`{module}.{name}`", f"{number} {unit}", why))
    return _table(("constant", "value", "what, and why"), rows)


def _variables() -> str:
    names = (f"`{settings.PREFIX}{name.upper()}`" for name in settings._CHECKS)
    return ", ".join(names) + "\n"


def _checks() -> str:
    return _table(("looked at", "what is told"), findings.CHECKS.items())


def _keywords() -> str:
    rows = [(f"`{name}`", "honoured", how) for name, how in keywords.HONOURED.items()]
    for name, (harmless, why) in keywords.CANNOT.items():
        # The first says it; the others are other spellings of it, or as harmless.
        shown = f"refused unless `{harmless[0]}`" if harmless else "refused"
        rows.append((f"`{name}`", shown, why))
    rows += [(f"`{name}`", "harmless", why) for name, why in keywords.HARMLESS.items()]
    return _table(("keyword", "here", "how, or why"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "conversation": _conversation,
    "lifecycle": _lifecycle,
    "from_client": lambda: _messages_of(messages.FROM_CLIENT),
    "from_server": lambda: _messages_of(messages.FROM_SERVER),
    "protocol_numbers": _protocol_numbers,
    "beacon": _beacon_fields,
    "errors": _errors,
    "limits": _limits,
    "variables": _variables,
    "checks": _checks,
    "keywords": _keywords,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
