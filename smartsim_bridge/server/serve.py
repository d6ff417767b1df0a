"""The server: who may talk, how long, and when it ends.

Made of parts that know nothing of each other: places and lock, listeners, sessions.  A
bad message costs its sender the link and nobody else anything.  At idle nothing wakes up
but the beacon's heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CommandServerError, ServerAlreadyRuns, ServerStartFailed
from ..links.link import Link
from ..links.stream_link import StreamListener
from ..protocol.beacon import Beacon, Credentials
from ..protocol.environment import without_job
from ..protocol.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    Hello,
    Inquiry,
    Message,
    Refusal,
    Report,
    Stopping,
    Welcome,
)
from .allowance import Allowance
from .audit import Audit
from .backlog import MAX_RATE, MAX_RUNNING, Backlog, Pace
from .beacon_file import BeaconFile, Lock, boot_id, host_name, process_start
from .commands import Surroundings
from .descriptors import commands_that_fit, raise_limit
from .exits import ExitWatch
from .journal import Journal
from .places import Places, private_directory
from .register import Register
from .sessions import MAX_NAME, Session
from .spool import Spool
from .visits import Visits

__all__ = ["Server", "ServerOptions"]

log = logging.getLogger(__name__)

MAX_LINKS = 512  # each takes a task and some 20 KiB; a user has a few
BEACON_SECONDS = 60.0  # between two touches of the beacon
IDLE_HOURS = 12.0  # without client or command, then the server ends
KILLED_SECONDS = 2.0  # for a killed command to be gone


@dataclass(frozen=True)
class ServerOptions:
    """How a server was asked to run."""

    version: str
    addresses: tuple[str, ...] = ("127.0.0.1",)
    port: int = 0
    idle_seconds: float = IDLE_HOURS * 3600
    allow: tuple[str, ...] = ()  # programs; none named: all
    audit: bool = False
    max_commands: int = MAX_RUNNING
    max_clients: int = MAX_LINKS
    max_rate: float = MAX_RATE  # starts per second
    nice: int = 5


class Server:
    """One server; `start`, then `wait` until it ends."""

    def __init__(self, options: ServerOptions, places: Places, environ: Mapping[str, str]) -> None:
        self._options = options
        self._places = places
        self._lock = Lock(places.lock)
        self._host, self._boot = host_name(), boot_id()
        self._file = BeaconFile(places, self._host, self._boot)
        self._environment = without_job(environ)
        self._directory = _home(environ)
        self._unix: StreamListener | None = None
        self._zmq: object | None = None
        self._stop_grace: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._journal: Journal | None = None
        self._returning: asyncio.Task[None] | None = None
        self.beacon: Beacon | None = None
        self.credentials: Credentials | None = None

    # --- beginning and end

    async def start(self) -> Beacon:
        """Takes the lock, listens, leaves the beacon.

        Raises ServerStartFailed, and has then let go of everything.
        """
        if not self._lock.take():
            raise ServerAlreadyRuns(self._who_runs(), host=self._host, step="lock")
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._visits = Visits(self._answer, self._begin, self._rest)
        try:
            await self._open()
        except CommandServerError:
            await self._close()
            raise
        assert self.beacon is not None
        log.info("serving as pid %s on %s %s", os.getpid(), self._host, self.beacon.endpoints)
        return self.beacon

    async def wait(self) -> None:
        """Returns when the server was stopped and has ended its commands."""
        await self._ended
        await self._hide()
        await self._register.settle(KILLED_SECONDS)
        await self._end_commands(self._stop_grace or 0.0)
        await self._close()
        log.info("ended")

    def stop(self, grace: float = 5.0, reason: str = "stopped") -> None:
        """Ends the server; commands get SIGTERM, and SIGKILL after `grace` seconds."""
        if not self._ended.done():
            log.info("stopping: %s", reason)
            self._stop_grace = grace
            self._backlog.is_closed = True
            self._visits.tell(Stopping(reason))
            self._ended.set_result(None)

    def existing(self) -> tuple[Beacon, Credentials | None] | None:
        """The beacon of the server that holds the lock, where it has left one."""
        found = self._file.read()
        if found is None or process_start(found[0].pid) != found[0].pid_start:
            return None
        return found

    def _who_runs(self) -> str:
        found = self.existing()
        who = f"pid {found[0].pid} at {', '.join(found[0].endpoints)}" if found else "starting"
        return f"A server of yours already runs on {self._host}: {who}"

    async def _open(self) -> None:
        limit = raise_limit()
        most = min(self._options.max_commands, commands_that_fit())
        self._backlog = Backlog(most, pace=Pace(self._options.max_rate))
        self._audit = Audit(self._audit_path() if self._options.audit else None)
        self._watch = ExitWatch()
        self._journal = Journal(os.path.join(self._places.journals, f"{self._host}.jsonl"))
        spool = Spool(os.path.join(self._places.spool, self._host))
        spool.clear()
        surroundings = Surroundings(
            self._environment,
            self._watch,
            self._directory,
            self._journal,
            spool,
            limit,
            self._audit,
        )
        self._register = Register(surroundings, self._backlog, self._allowance())
        self._unix = StreamListener(self._visits.accept)
        try:
            await self._unix.listen(self._places.socket)
        except OSError as refused:
            raise ServerStartFailed(
                f"Cannot listen on {self._places.socket}: {refused.strerror}", step="listen"
            ) from None
        endpoints, why_not, zmq_version = self._listen_zmq()
        self.beacon = self._make_beacon(endpoints, why_not, zmq_version)
        self._file.write(self.beacon, self.credentials)
        self._beat()
        self._rest()

    def _audit_path(self) -> str:
        return os.path.join(self._places.logs, f"{self._host}.audit")

    def _allowance(self) -> Allowance | None:
        names = self._options.allow
        return Allowance(names, self._environment.get("PATH", os.defpath)) if names else None

    def _listen_zmq(self) -> tuple[tuple[str, ...], str, str]:
        """Endpoints, or why there are none, and pyzmq's version."""
        addresses, port = list(self._options.addresses), self._options.port
        try:
            from ..links import zmq_listener  # the only place that needs pyzmq

            version = sys.modules["zmq"].__version__
            credentials, secret = zmq_listener.new_credentials()
            listener = zmq_listener.ZmqListener(self._visits.accept)
        except Exception as broken:  # noqa: BLE001 - a half-installed pyzmq raises anything
            return self._without_zmq(broken)
        try:
            endpoints = listener.listen(addresses, port, credentials, secret)
        except ServerStartFailed:
            raise
        except Exception as broken:  # noqa: BLE001 - as above
            # Kept and never closed: what is broken may hang while it is ended.
            self._broken = listener
            return self._without_zmq(broken)
        self._zmq, self.credentials = listener, credentials
        return endpoints, "", version

    def _without_zmq(self, why: Exception) -> tuple[tuple[str, ...], str, str]:
        log.info("no ZMQ: %s: %s", type(why).__name__, why)
        said = _one_line(why)
        if self._options.port != 0:
            # Clients were told this port; a server that they cannot reach helps nobody.
            raise ServerStartFailed(
                f"Port {self._options.port} cannot be served: {said}",
                step="listen",
                advice="Install pyzmq for this Python, or leave the port out (--port 0): "
                "the unix socket needs none.",
            )
        return (), said, ""

    def _make_beacon(self, endpoints: tuple[str, ...], why_not: str, version: str) -> Beacon:
        return Beacon(
            host=self._host,
            boot_id=self._boot,
            uid=os.getuid(),
            pid=os.getpid(),
            pid_start=process_start(os.getpid()),
            version=self._options.version,
            protocol=PROTOCOL_VERSION,
            socket=self._places.socket,
            endpoints=endpoints,
            server_key=self.credentials.server_key if self.credentials else "",
            python=sys.executable,
            zmq=version,
            why_no_zmq=why_not,
            state_dir=self._places.state,
            log=os.path.join(self._places.logs, f"{self._host}.log"),
            started=time.time(),
        )

    async def _end_commands(self, grace: float) -> None:
        # Not by session: those of a client that is gone would be left behind.
        for command in self._backlog.commands:
            command.terminate(grace)
        await self._backlog.wait_empty(grace + KILLED_SECONDS)
        for command in self._backlog.commands:
            command.kill()

    async def _hide(self) -> None:
        """No new client is led here; who starts a server now waits for the lock."""
        if self.beacon is not None:
            self._file.remove(os.getpid())
        if self._unix is not None:
            await self._unix.close()

    async def _close(self) -> None:
        await self._hide()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()
        # Last: a client that asked for the end sees by its link that all of it has come.
        await self._visits.close()
        if self._zmq is not None:
            self._zmq.close()  # type: ignore[attr-defined]

    # --- clients

    def _begin(self, link: Link, hello: Hello) -> Session:
        return Session(
            hello.session,
            link,
            self._register,
            on_inquiry=self._report,
            on_stop=lambda request: self.stop(request.grace, "a client asked for it"),
            version=hello.version,
        )

    def _answer(self, hello: Hello) -> Welcome | Refusal:
        version = self._options.version
        if not 0 < len(hello.session) <= MAX_NAME:
            return Refusal("session", f"a name has 1 to {MAX_NAME} characters", version)
        if hello.wish == "stop":
            self.stop(reason="a client asked for it")
        if self._backlog.is_closed:
            return Refusal("stopping", "the server is stopping", version)
        most = self._options.max_clients
        if len(self._visits) >= most:
            return Refusal("limit", f"{most} clients are connected already", version)
        if hello.newest < OLDEST_PROTOCOL or hello.oldest > PROTOCOL_VERSION:
            ours = f"the server ({version}) speaks protocol {OLDEST_PROTOCOL}-{PROTOCOL_VERSION}"
            theirs = f"the client ({hello.version}) {hello.oldest}-{hello.newest}"
            return Refusal("version", f"{ours}, {theirs}", version)
        assert self._journal is not None
        resumed = self._journal.knows(hello.session)
        return Welcome(
            min(hello.newest, PROTOCOL_VERSION),
            version,
            self._host,
            os.getpid(),
            why_no_zmq=self.beacon.why_no_zmq if self.beacon else "",
            resumed=resumed,
        )

    def _report(self, inquiry: Inquiry) -> Message:
        assert self.beacon is not None
        beacon = self.beacon
        return Report(
            inquiry.request,
            beacon.version,
            beacon.host,
            beacon.pid,
            beacon.started,
            clients=len(self._visits),
            running=self._backlog.running,
            waiting=self._backlog.waiting,
            endpoints=beacon.endpoints,
            log=beacon.log,
            python=f"{beacon.python} {sys.version.split()[0]}",
            zmq=beacon.zmq,
            why_no_zmq=beacon.why_no_zmq,
            why_no_journal=self._journal.why_not if self._journal else "",
        )

    # --- clocks

    def _beat(self) -> None:
        for path in (self._places.lock, self._places.socket):
            # A cleaner of /tmp takes what looks old; a server may live for weeks.
            with contextlib.suppress(OSError):
                os.utime(path)
        self._register.tidy()
        self._loop.call_later(BEACON_SECONDS, self._beat)
        assert self._unix is not None
        if not self._ended.done() and not self._unix.can_be_found:
            self._returning = self._loop.create_task(self._return())
        elif self.beacon is not None and not self._file.touch(self.beacon, self.credentials):
            log.warning("the beacon was not ours any more; writing it again")
            self._show()

    def _show(self) -> None:
        assert self.beacon is not None
        with contextlib.suppress(ServerStartFailed):
            self._file.write(self.beacon, self.credentials)

    async def _return(self) -> None:
        """Somebody removed our directory: in again, unless another server has come meanwhile.

        Whoever is connected does not notice either way.
        """
        places = self._places
        try:
            private_directory(os.path.dirname(places.lock))
            if not self._lock.renew():
                log.warning("another server has taken our place; the clients that we have stay")
                return
            if self._unix is not None:
                await self._unix.listen(places.socket)
        except (CommandServerError, OSError) as refused:
            log.warning("%s cannot be made again: %s", places.socket, refused)
            return
        log.warning("%s was gone and is there again", places.socket)
        self._show()

    def _rest(self) -> None:
        """Starts the idle clock, or stops it: somebody came or left."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._visits:
            self._idle_timer = self._loop.call_later(self._options.idle_seconds, self._idle)

    def _idle(self) -> None:
        if self._backlog.running:
            self._rest()
        else:
            self.stop(reason="idle")


def _home(environ: Mapping[str, str]) -> str:
    """Where commands start; as with sshd, the root where there is no such home."""
    home = environ.get("HOME", "")
    return home if os.path.isdir(home) and os.access(home, os.X_OK) else "/"


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200] or type(fault).__name__
