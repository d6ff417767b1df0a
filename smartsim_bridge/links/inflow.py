"""Bounds what a library that reads by itself keeps of messages that are not whole yet.

libzmq holds every part of a message until its last one has come, and no option bounds
that: MAXMSGSIZE is for one part, RCVHWM for whole messages, and a stranger may send one part
of that size before it has proven anything.  So the kernel is asked how many bytes of each
connection were taken (TCP_INFO, less what lies unread), and that is compared with how far
the delivered messages reach.  Who has too much under way loses the connection, whereupon
the library drops what it kept.

A connection is looked at after bytes came, at most every LOOK_SECONDS, and never at idle.
Linux only: elsewhere `watches()` says no, and what is not whole stays unbounded.  Must not
know what the library is, nor the messages; used by `zmq_listener`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Collection, Iterable

__all__ = ["Inflow", "Inflows", "watches"]

log = logging.getLogger(__name__)

# What comes between two looks is not bounded: a loopback brings some MiB.  Who has spoken, and
# has not much under way, is looked at less often, for its messages pay for it.
SOON_SECONDS, LOOK_SECONDS = 0.002, 0.01
# The kernel does not tell of bytes that the library took before we asked: while there are
# looks at all, each connection has one as often.
SWEEP_SECONDS = 0.1
# Of one connection, and of all together.  Before the first message: strangers are among
# them, and a Hello is small; a mistake of ten thousand parts may still be answered.  After
# it: the largest message has 2.25 MiB.  Parts of a few bytes each take the library more than
# twice their bytes, and 16 MiB are the aim.
FIRST_EACH, FIRST_ALL = 512 * 1024, 1024 * 1024
EACH, ALL = 3 * 1024 * 1024, 5 * 1024 * 1024
LIGHT = 2048  # not worth adding up
MUCH = 512 * 1024  # more than a usual message, and worth a look soon
# Of a part on the wire beside its bytes: the least, so that nobody is credited too much.
PART_LEAST = 35

_NOWHERE = bytearray(1024 * 1024)  # how much to drop at a time: nothing is ever written there
_DROP = getattr(socket, "MSG_TRUNC", 0) | getattr(socket, "MSG_DONTWAIT", 0)
_RECEIVED = 128  # where struct tcp_info has tcpi_bytes_received, since Linux 4.1
_INFO_SIZE = _RECEIVED + 8


def watches() -> bool:
    """Whether this system tells how much a connection has brought."""
    if not sys.platform.startswith("linux"):
        return False
    with socket.socket() as probe:
        return len(probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)) >= _INFO_SIZE


class Inflow:
    """What one connection brought, and how much of it was delivered."""

    def __init__(self, connection: socket.socket) -> None:
        self.has_spoken = False
        self.is_cut = False
        self.under_way = 0  # bytes taken of messages that were not delivered, at the last look
        self.reach = 0  # bytes up to the end of the last delivered message, at least
        self._connection = connection
        self._taken = self._unread = 0
        self._looked = 0.0
        self._settled = 0  # bytes taken when nothing whole was waiting
        self._is_fresh = False  # something was delivered since

    def fileno(self) -> int:
        """Our own descriptor of the connection; -1 once closed."""
        return self._connection.fileno()

    def deliver(self, parts: Iterable[bytes]) -> None:
        """A whole message of these parts has come out."""
        self.has_spoken = self._is_fresh = True
        for part in parts:
            self.reach += PART_LEAST + len(part)

    def drop(self, part: bytes) -> None:
        """One more part of that message has come out, and is not delivered."""
        self.reach += PART_LEAST + len(part)

    def look(self, now: float) -> None:
        """Asks the kernel."""
        self._looked = now
        if self._is_fresh:
            # What was not whole at the last settling was so by now.  This makes up for
            # heartbeats and the like, which are no messages and never counted.
            self.reach = max(self.reach, self._settled)
        self._taken = self._ask()
        self.under_way = max(0, self._taken - self.reach)

    def has_rested(self, now: float) -> bool:
        """Whether a look now costs little, and nobody is to look again soon."""
        return self.has_spoken and now - self._looked > LOOK_SECONDS

    @property
    def is_read(self) -> bool:
        """Whether at the last look the library had taken all that came."""
        return self._unread == 0

    def settle(self) -> None:
        """Of what was taken until the last look, nothing whole waits to be delivered."""
        self._settled, self._is_fresh = self._taken, False

    def cut(self) -> None:
        """Breaks the connection under the library's hands.

        It would still read what lies in the kernel, which may be megabytes.
        """
        self.is_cut = True
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
            while self._connection.recv_into(_NOWHERE, 0, _DROP):
                pass
        except OSError:
            pass  # broken already, or nothing is left

    def close(self) -> None:
        """Lets go of our descriptor; the peer sees the end only now."""
        self._connection.close()

    def _ask(self) -> int:
        info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        (received,) = struct.unpack_from("Q", info, _RECEIVED)
        unread = fcntl.ioctl(self._connection.fileno(), termios.FIONREAD, bytes(4))
        (self._unread,) = struct.unpack("i", unread)
        return int(received - self._unread)


class Inflows:
    """All connections of one listener.

    `take(most)` is to deliver up to `most` whole messages that wait, from each connection
    in its turn, and says whether none is left.
    """

    def __init__(
        self, ports: Collection[int], most_quiet: int, take: Callable[[int], bool]
    ) -> None:
        self._ports = ports
        self._most_quiet = most_quiet
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._all: dict[int, Inflow] = {}
        self._quiet: dict[int, Inflow] = {}  # those that may be so still, the oldest first
        self._stirred: set[Inflow] = set()
        self._heavy: set[Inflow] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._swept = 0.0

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._all)

    def find(self, descriptor: int) -> Inflow | None:
        """The connection that the library knows by `descriptor`."""
        return self._all.get(descriptor)

    def accept(self, descriptor: int) -> None:
        """The library accepted a connection.

        It may have closed it since, and the number may mean another file by now: ours is a
        duplicate, and only of a connection to our port.
        """
        self.end(descriptor)
        connection = _duplicate(descriptor)
        if connection is None:
            return
        if not _leads_to(connection, self._ports):
            connection.close()
            return
        inflow = self._all[descriptor] = self._quiet[descriptor] = Inflow(connection)
        self._look_again(inflow)  # unasked: what was read before now is not told any more
        if len(self._quiet) > self._most_quiet:
            self._make_room()

    def end(self, descriptor: int) -> None:
        """The library closed the connection."""
        inflow = self._all.pop(descriptor, None)
        self._quiet.pop(descriptor, None)
        if inflow is not None:
            self._loop.remove_reader(inflow.fileno())
            self._stirred.discard(inflow)
            self._heavy.discard(inflow)
            inflow.close()

    def close(self) -> None:
        """Lets go of all connections."""
        for descriptor in list(self._all):
            self.end(descriptor)
        if self._timer is not None:
            self._timer.cancel()

    # --- looking

    def _await_bytes(self, inflow: Inflow) -> None:
        self._loop.add_reader(inflow.fileno(), self._stir, inflow)

    def _stir(self, inflow: Inflow) -> None:
        """Bytes came: once is enough until the next look.

        Where they come alone, as heartbeats do, that is at once: a timer would wake us twice.
        """
        now = self._loop.time()
        if inflow.has_rested(now):
            inflow.look(now)
            if inflow.is_read and inflow.under_way <= LIGHT:
                return
        self._loop.remove_reader(inflow.fileno())
        self._look_again(inflow)

    def _look_again(self, inflow: Inflow) -> None:
        self._stirred.add(inflow)
        is_calm = inflow.has_spoken and inflow.under_way < MUCH
        at = self._loop.time() + (LOOK_SECONDS if is_calm else SOON_SECONDS)
        if self._timer is not None and self._timer.when() <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        stirred, self._stirred = self._stirred, set()
        for inflow in stirred:
            self._await_bytes(inflow)  # before the look: what comes after it is told
        looked = stirred | self._heavy
        if self._loop.time() - self._swept > SWEEP_SECONDS:
            self._swept = self._loop.time()
            looked.update(inflow for inflow in self._all.values() if not inflow.is_cut)
        self._ask(looked)
        if any(True for _ in _excess(self._heavy)):
            self._judge()

    def _ask(self, inflows: Collection[Inflow]) -> None:
        now = self._loop.time()
        for inflow in inflows:
            inflow.look(now)
        if self._take(0):
            for inflow in inflows:
                inflow.settle()
        self._heavy = {inflow for inflow in inflows if inflow.under_way > LIGHT}

    # --- judging

    def _judge(self) -> None:
        """Cuts whoever has too much under way; whole messages that wait are no fault of theirs.

        The library delivers from each connection in its turn: after one message for each,
        who delivered none has none, and all that it has under way is not whole.
        """
        before = {inflow: inflow.reach for inflow in self._heavy}
        self._take(len(self._all))
        waiting = {inflow for inflow in before if inflow.reach != before[inflow]}
        for inflow in list(_excess(before.keys() - waiting)):
            log.warning("cut a connection: %s bytes of no whole message", inflow.under_way)
            self._cut(inflow)
        for inflow in waiting:
            if inflow.fileno() >= 0:
                self._look_again(inflow)

    def _make_room(self) -> None:
        """Cuts the oldest of too many that never spoke: who means to speak does so at once."""
        quiet = {name: one for name, one in self._quiet.items() if not one.has_spoken}
        spare = max(0, len(quiet) - self._most_quiet * 7 // 8)  # some, so as not to count each time
        for descriptor in list(quiet)[:spare]:
            self._cut(quiet.pop(descriptor))
        self._quiet = quiet

    def _cut(self, inflow: Inflow) -> None:
        """The library notices and says so; until then there is nothing to look at."""
        if inflow.fileno() >= 0:
            self._loop.remove_reader(inflow.fileno())
        self._stirred.discard(inflow)
        self._heavy.discard(inflow)
        inflow.cut()


def _excess(inflows: Iterable[Inflow]) -> Iterable[Inflow]:
    """Those to cut, so that each and all keep to the limits: the largest first."""
    total = {False: 0, True: 0}
    for inflow in sorted(inflows, key=lambda one: one.under_way):
        each, most = (EACH, ALL) if inflow.has_spoken else (FIRST_EACH, FIRST_ALL)
        total[inflow.has_spoken] += inflow.under_way
        if inflow.under_way > each or total[inflow.has_spoken] > most:
            yield inflow


def _duplicate(descriptor: int) -> socket.socket | None:
    """None where the number is no socket's any more."""
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None


def _leads_to(connection: socket.socket, ports: Collection[int]) -> bool:
    try:
        is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        return is_tcp and connection.getsockname()[1] in ports
    except OSError:
        return False
