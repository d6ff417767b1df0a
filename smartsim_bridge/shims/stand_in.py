"""What a shim runs: carries one command's streams, signals and end over SHIM WIRE 1.

A copy of this file lies in each folder of shims and is run as `python -I -S` by an
interpreter that need not know this package.  It starts as fast as the interpreter does, so
it imports modules in C only, not even `os`, and leaves without taking the interpreter down.
`wire` says what is spoken here; Python 3.9 must read it.
"""

import _signal  # type: ignore[import-not-found]  # `signal` without the enumerations
import _socket
import posix
import select
import sys
from time import monotonic

PAYLOAD_LIMIT = 1024 * 1024
INPUT_PIECE = 64 * 1024
SOCKET_VARIABLE = b"SMARTSIM_BRIDGE_SOCKET"
BRIDGE_FAULT = 255

# Linux's numbers travel, whatever they are here.
SIGNALS = {
    "SIGHUP": 1,
    "SIGINT": 2,
    "SIGQUIT": 3,
    "SIGUSR1": 10,
    "SIGUSR2": 12,
    "SIGPIPE": 13,
    "SIGALRM": 14,
    "SIGTERM": 15,
    "SIGCONT": 18,
    "SIGTSTP": 20,
    "SIGWINCH": 28,
}
NAMES = {number: name for name, number in SIGNALS.items()}
ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)

# That many of them, while nothing comes from the head, and the shim goes by itself.
PATIENCE = 3

# A command that is told to end may be dead while its output is stuck here: so much more is
# read, to hear of it.  The head sends 1 MiB ahead on each stream.
AHEAD = 8 * 1024 * 1024

# A reception that has no room for one more caller has it soon, or hangs.
CONNECT_SECONDS = 60.0
FLUSH_SECONDS = 1.0  # for a last word before the shim is stopped, or ends

# What a pipe or a terminal that polls as writable takes without blocking.
PIECE = 4096
REGULAR_FILE = 0o100000
EBADF = 9  # of every system; `errno` is a module more


def main(words: "list[str]") -> None:
    """`words`: of the program, the folder, the command, "=" and LC_CTYPE, the try, the rest."""
    _signal.signal(_signal.SIGINT, _default_for(_signal.SIGINT))  # no traceback from here on
    _hold_standard_descriptors()
    folder, command, locale, attempt = words[1:5]
    arguments = [_bytes(one) for one in words[5:]]
    posix.environ.pop(b"LC_CTYPE", None)  # which this interpreter may have set
    if locale:
        posix.environ[b"LC_CTYPE"] = _bytes(locale[1:])
    path = posix.environ.pop(SOCKET_VARIABLE, b"")
    try:
        connection = _connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        if attempt == "first":
            _call_again(_bytes(folder) + b"/" + _bytes(command), arguments)
        fail(command, "the bridge has ended")
    except OSError as fault:
        fail(command, f"cannot reach the bridge: {fault}")
    try:
        Relay(connection, command).run(_hello(_bytes(command), _bytes(folder), arguments))
    except Exception as fault:  # noqa: BLE001 - a traceback's status 1 would pass for the command's
        fail(command, f"{type(fault).__name__}: {fault}")


def fail(command: str, text: str) -> None:
    """Says why on stderr, and ends."""
    _say(f"{command}: {text}".encode("utf-8", "surrogateescape"))
    posix._exit(BRIDGE_FAULT)


class Relay:
    """Everything after the connection; `run` does not return."""

    def __init__(self, connection: "_socket.socket", command: str) -> None:
        self._connection = connection
        self._command = command
        self._out = bytearray()  # for the reception
        self._in = bytearray()  # from it
        self._rest: tuple[int, memoryview] | None = None  # for stdout or stderr
        self._can_send = True
        self._has_ended = False  # the reception: all that it ever said is in _in
        self._reads = False
        self._unanswered = 0
        self._was_told_to_end = False

    def run(self, hello: bytes) -> None:
        """Until the command's end, or the connection's."""
        self._bell = _hang_bell()
        self._send(b"H", hello)
        while True:
            ready = self._wait()
            if self._bell in ready:
                self._take_signals()
            if self._rest and self._rest[0] in ready:
                self._write()
            if self._connection.fileno() in ready:
                self._exchange(ready[self._connection.fileno()])
            if 0 in ready:
                self._read()
            while not self._rest and self._take_frame():
                pass

    def _wait(self) -> "dict[int, int]":
        """What is ready.  Nothing is asked for that there is no room for."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        wanted = select.POLLOUT if self._out else 0
        if self._rest:
            poll.register(self._rest[0], select.POLLOUT)
        if self._may_receive():
            wanted |= select.POLLIN
        if wanted:
            poll.register(self._connection.fileno(), wanted)
        if self._reads and len(self._out) < INPUT_PIECE:
            poll.register(0, select.POLLIN)
        return dict(poll.poll())

    # --- the reception

    def _send(self, kind: bytes, payload: bytes) -> None:
        if self._can_send:
            self._out += kind + len(payload).to_bytes(4, "big") + payload

    def _exchange(self, events: int) -> None:
        if self._out:
            self._flush()
        if events & ~select.POLLOUT and self._may_receive():
            self._receive()

    def _may_receive(self) -> bool:
        if self._has_ended:
            return False
        return not self._rest or (self._was_told_to_end and len(self._in) < AHEAD)

    def _flush(self) -> None:
        try:
            del self._out[: self._connection.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:  # it is gone, but may have left its last words
            self._can_send = self._reads = False
            self._out.clear()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(INPUT_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._unanswered = 0
            self._in += data
        else:
            self._has_ended = True
        if self._rest:
            self._look_ahead()

    def _receive_all_there_is(self) -> None:
        known = -1
        while self._rest and self._may_receive() and known != len(self._in):
            known = len(self._in)
            self._receive()

    def _look_ahead(self) -> None:
        """Ends as a command that was killed, which leaves unwritten what nobody took."""
        at = 0
        while len(self._in) >= at + 5:
            end = at + 5 + int.from_bytes(self._in[at + 1 : at + 5], "big")
            payload = self._in[at + 5 : end]
            if self._in[at : at + 1] == b"X" and len(self._in) >= end and payload[:1] == b"-":
                _end_as(int(payload))
            at = end

    def _take_frame(self) -> bool:
        length = int.from_bytes(self._in[1:5], "big")
        if length > PAYLOAD_LIMIT:
            fail(self._command, "the bridge speaks another language")
        if len(self._in) < 5 + length:
            if self._has_ended:
                fail(self._command, "the bridge has ended before the command did")
            return False
        kind, payload = bytes(self._in[:1]), bytes(self._in[5 : 5 + length])
        del self._in[: 5 + length]
        if kind in (b"O", b"E") and payload:
            self._rest = (1 if kind == b"O" else 2, memoryview(payload))
        elif kind == b"R":
            self._reads = self._can_send
        elif kind == b"X":
            _end_as(int(payload))
        elif kind == b"F":
            status, _, text = payload.partition(b"\0")
            _say(text)
            posix._exit(int(status))
        return True

    # --- this process's streams and signals

    def _read(self) -> None:
        try:
            data = posix.read(0, INPUT_PIECE)
        except BlockingIOError:  # another process reads it, too
            return
        except OSError:
            data = b""
        self._send(b"I", data)
        self._reads = bool(data)

    def _write(self) -> None:
        descriptor, data = self._rest or (1, memoryview(b""))
        try:
            written = posix.write(descriptor, data[: _room(descriptor, len(data))])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._send(b"S", b"%d" % SIGNALS["SIGPIPE"])
            self._flush_for_a_moment()
            _end_as(-SIGNALS["SIGPIPE"])
        except OSError as fault:
            if fault.errno != EBADF:
                fail(self._command, f"cannot write the output: {fault}")
            written = len(data)  # closed by the caller; some shells leave their script there
        self._rest = (descriptor, data[written:]) if written < len(data) else None

    def _take_signals(self) -> None:
        numbers = posix.read(self._bell, 64)
        for number in numbers:
            self._send(b"S", b"%d" % LINUX[number])
            if number in ENDING:
                self._unanswered += 1
                self._was_told_to_end = True
                self._receive_all_there_is()
                if self._has_ended or self._unanswered >= PATIENCE:
                    _end_by(number)  # nobody is left to be told, or nobody answers
        if numbers.rfind(_signal.SIGTSTP) > numbers.rfind(_signal.SIGCONT):
            self._stop()

    def _stop(self) -> None:
        """By the signal itself, which stops nothing where nobody could go on with it."""
        self._flush_for_a_moment()
        _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        posix.kill(posix.getpid(), _signal.SIGTSTP)
        _signal.signal(_signal.SIGTSTP, _leave_to_the_bell)

    def _flush_for_a_moment(self) -> None:
        end = monotonic() + FLUSH_SECONDS
        while self._out and monotonic() < end:
            poll = select.poll()
            poll.register(self._connection.fileno(), select.POLLOUT)
            poll.poll(FLUSH_SECONDS * 1000)
            self._flush()


def _hold_standard_descriptors() -> None:
    """What was closed becomes /dev/null: else the connection would take its place."""
    for descriptor in (0, 1, 2):
        try:
            posix.fstat(descriptor)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # takes the lowest that is free
            posix.set_inheritable(descriptor, True)


def _connect(path: bytes) -> "_socket.socket":
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.setblocking(False)
    end = monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection.connect(path)
            break
        except BlockingIOError:
            if monotonic() > end:
                raise
            select.poll().poll(10)
    if _owner(connection, path) != posix.geteuid():
        raise PermissionError("it belongs to somebody else")
    return connection


def _owner(connection: "_socket.socket", path: bytes) -> int:
    """Who listens: arguments and environment are for nobody else."""
    if not hasattr(_socket, "SO_PEERCRED"):
        return posix.stat(path).st_uid
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _hello(command: bytes, folder: bytes, arguments: "list[bytes]") -> bytes:
    try:
        directory = posix.getcwdb()
    except OSError:  # somebody has removed it
        directory = b""
    fields = [b"1", command, folder, directory, b"%d" % len(arguments), *arguments]
    fields += [name + b"=" + value for name, value in posix.environ.items()]
    return b"\0".join(fields)


def _call_again(shim: bytes, arguments: "list[bytes]") -> None:
    """As if there were no session: the shim knows what else there is."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores
        _signal.signal(number, _signal.SIG_DFL)
    environment = {**posix.environ, SOCKET_VARIABLE: b"gone"}
    try:
        posix.execve(shim, [shim, *arguments], environment)
    except OSError:
        pass  # the folder was removed


def _hang_bell() -> int:
    """A descriptor with one byte for each signal that comes.

    What is ignored stays so, as nohup and shells do for what runs in the background.
    """
    ours, theirs = _socket.socketpair()
    theirs.setblocking(False)
    _signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    theirs.detach()
    for number in LINUX:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, _leave_to_the_bell)
    return ours.detach()


def _leave_to_the_bell(number: int, frame: object) -> None:
    """That there is a handler is what makes the byte."""


def _default_for(number: int) -> object:
    ignored = _signal.getsignal(number) == _signal.SIG_IGN
    return _signal.SIG_IGN if ignored else _signal.SIG_DFL


def _room(descriptor: int, length: int) -> int:
    is_file = posix.fstat(descriptor).st_mode & 0o170000 == REGULAR_FILE
    return length if is_file else min(length, PIECE)


def _end_as(returncode: int) -> None:
    if returncode < 0:
        name = NAMES.get(-returncode, "")
        _end_by(getattr(_signal, name, -returncode))
        posix._exit(128 - returncode)
    posix._exit(returncode & 255)


def _end_by(number: int) -> None:
    """By that signal, and without a core, which would be this program's."""
    try:
        import resource  # not everywhere

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass
    try:
        _signal.signal(number, _signal.SIG_DFL)
    except (OSError, ValueError):  # SIGKILL has no handler, and needs none
        pass
    try:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
        posix.kill(posix.getpid(), number)
    except (OSError, ValueError):  # no such signal here
        pass
    posix._exit(128 + number)


def _say(text: bytes) -> None:
    try:
        posix.write(2, text if text.endswith(b"\n") else text + b"\n")
    except OSError:
        pass


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# The signals that travel, by their numbers here; SIGPIPE is told by what is written.
LINUX = {getattr(_signal, name): number for name, number in SIGNALS.items() if name != "SIGPIPE"}
