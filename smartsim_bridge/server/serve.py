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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import CommandServerError, ServerAlreadyRuns, ServerStartFailed
from ..links.link import Link
from ..protocol.beacon import Beacon, Credentials
from ..protocol.environment import of_a_login
from ..protocol.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    Hello,
    Inquiry,
    Locate,
    Located,
    Message,
    Refusal,
    Replace,
    ReplaceFailed,
    Report,
    Stopping,
    Welcome,
)
from .allowance import Allowance
from .audit import Audit
from .backlog import BRIEF_PLACES, Backlog, Pace
from .beacon_file import BeaconFile, Lock, boot_id, host_name, process_start
from .descriptors import commands_that_fit, raise_limit
from .doors import Doors
from .exits import ExitWatch
from .handover import Carry, Past, written
from .journal import Journal
from .locating import locate
from .options import ServerOptions
from .own_programs import PROGRAMS
from .places import Places, private_directory
from .polls import Polls
from .register import Register
from .search_path import without_shims
from .sessions import MAX_NAME, Session
from .site import is_safe_site
from .spool import Spool
from .succession import check, execute, site_options, uninterrupted
from .surroundings import Gone, Surroundings
from .visits import Visits

__all__ = ["Server"]

log = logging.getLogger(__name__)

BEACON_SECONDS = 60.0  # between two touches of the beacon
KILLED_SECONDS = 2.0  # for a killed command to be gone


class Server:
    """One server; `start`, then `go_on`, then `wait` until it ends.

    With `past` it goes on where the program has stopped that this process was before.
    """

    def __init__(
        self,
        options: ServerOptions,
        places: Places,
        environ: Mapping[str, str],
        past: Past | None = None,
    ) -> None:
        self._options = options
        self._past = past
        self._places = places
        self._lock = Lock(places.lock)
        self._host, self._boot = host_name(), boot_id()
        self._doors = Doors(
            places.socket,
            options.addresses,
            options.port,
            self._come_in,
        )
        self._file = BeaconFile(places, self._host, self._boot)
        self._environment = without_shims(of_a_login(environ))
        self._directory = _home(environ)
        self._started = time.time() if past is None else past.server["started"]
        self._stop_grace: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._journal: Journal | None = None
        self._returning: asyncio.Task[None] | None = None
        self._succession: asyncio.Task[None] | None = None
        self.beacon: Beacon | None = None

    @classmethod
    def successor(
        cls, past: Past, version: str, environ: Mapping[str, str], site: str = ""
    ) -> Server:
        """The server of `version` that goes on from there."""
        options = ServerOptions.handed_over(past.server["options"], version, site)
        return cls(options, Places(**past.server["places"]), environ, past)

    @property
    def credentials(self) -> Credentials | None:
        """What a client needs for ZMQ; None where there is none, or before `start`."""
        return self._doors.credentials

    @property
    def log_path(self) -> str:
        """Where its log is."""
        return os.path.join(self._places.logs, f"{self._host}.log")

    # --- beginning and end

    async def start(self) -> Beacon:
        """Takes the lock, listens, leaves the beacon.

        Raises ServerStartFailed, and has then let go of everything.
        """
        if self._past is not None:
            self._lock.take_over(self._past.server["lock"])
        elif not self._lock.take():
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

    def go_on(self) -> None:
        """Starts what waits: whoever would end us can do so from now on."""
        self._backlog.go_on()

    async def wait(self) -> None:
        """Returns when the server was stopped and has ended its commands."""
        await self._ended
        await self._hide()
        await self._register.settle(KILLED_SECONDS)
        await self._end_commands(self._stop_grace or 0.0)
        self._spool.clear()  # nobody can ask for it any more
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
        past = self._past.server if self._past is not None else None
        limit = raise_limit()
        if past is not None:
            limit = past["limit"][0], past["limit"][1]
        self._limit = limit  # the one that commands get
        most = min(self._options.max_commands, max(1, commands_that_fit() - BRIEF_PLACES))
        self._backlog = Backlog(most, pace=Pace(self._options.max_rate))
        self._audit = Audit(self._audit_path() if self._options.audit else None)
        self._watch = ExitWatch()
        path = os.path.join(self._places.journals, f"{self._host}.jsonl")
        self._journal = Journal(path, None if past is None else past["journal"])
        self._spool = spool = Spool(os.path.join(self._places.spool, self._host))
        if past is None:
            spool.clear()
        else:
            spool.take_over(past["spool"])
        self._polls = Polls(self._options.poll_cache)
        surroundings = Surroundings(
            self._environment,
            self._watch,
            self._directory,
            self._journal,
            spool,
            limit,
            self._audit,
            self._polls,
        )
        self._register = Register(surroundings, self._backlog, self._allowance())
        await self._open_doors()
        self.beacon = self._make_beacon()
        self._file.write(self.beacon, self.credentials)
        self._file.clean()
        self._beat()
        self._rest()

    async def _open_doors(self) -> None:
        past, self._past = self._past, None  # with all output that it holds
        if past is None:
            await self._doors.open()
        else:
            self._backlog.pause()
            self._register.take_over(past)
            self._audit.take_over(past.server["audit"], self._register.request)
            self._doors.take_over(past.server["doors"])
            await self._doors.open_again()

    def _audit_path(self) -> str:
        return os.path.join(self._places.logs, f"{self._host}.audit")

    def _allowance(self) -> Allowance | None:
        names = self._options.allow
        return Allowance(names, self._environment.get("PATH", os.defpath)) if names else None

    def _make_beacon(self) -> Beacon:
        doors = self._doors
        return Beacon(
            host=self._host,
            boot_id=self._boot,
            uid=os.getuid(),
            pid=os.getpid(),
            pid_start=process_start(os.getpid()),
            version=self._options.version,
            protocol=PROTOCOL_VERSION,
            socket=self._places.socket,
            endpoints=doors.endpoints,
            server_key=self.credentials.server_key if self.credentials else "",
            python=sys.executable,
            zmq=doors.zmq_version,
            why_no_zmq=doors.why_no_zmq,
            state_dir=self._places.state,
            log=self.log_path,
            started=self._started,
            known_as=self._options.known_as,
            apart_from=self._options.apart_from,
            instead_of=self._options.instead_of,
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
        await self._doors.hide()

    async def _close(self) -> None:
        await self._hide()
        if self._succession is not None:
            self._succession.cancel()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()
        # Last: a client that asked for the end sees by its link that all of it has come.
        await self._visits.close()
        self._doors.close()

    # --- clients

    def _come_in(self, link: Link) -> None:
        self._visits.accept(link)

    def _begin(self, link: Link, hello: Hello) -> Session:
        return Session(
            hello.session,
            link,
            self._register,
            on_inquiry=self._report,
            on_stop=lambda request: self.stop(request.grace, "a client asked for it"),
            on_replace=self._replace,
            on_locate=self._locate,
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
            replaceable=True,
            locates=True,
            programs=PROGRAMS,
        )

    def _locate(self, asked: Locate, tell: Callable[[Located], None]) -> None:
        allowed = self._options.allow or None
        looking = self._loop.run_in_executor(None, locate, asked, self._environment, allowed)
        looking.add_done_callback(lambda done: tell(done.result()))

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
            polls=self._polls.asked,
            joined=self._polls.joined,
            poll_cache=self._polls.cache,
        )

    # --- giving way to another version

    def _replace(self, asked: Replace, session: Session) -> None:
        why_not = self._why_not_replaced(asked)
        if why_not:
            session.post(ReplaceFailed(asked.request, why_not))
        else:
            self._succession = self._loop.create_task(self._succeed(asked, session))

    def _why_not_replaced(self, asked: Replace) -> str:
        if self._ended.done() or self._succession is not None:
            return "it is stopping, or about to be replaced"
        # Who may run certain programs only must not get another one this way: what lies there
        # has come over SSH.
        is_sent = os.path.dirname(asked.path) == os.path.join(self._places.state, "far")
        if self._options.allow and (asked.python not in ("", sys.executable) or not is_sent):
            return "it was told which programs it may run, and that is none of them"
        if asked.site and not is_safe_site(asked.site):
            return f"{asked.site} is no directory of ours where nobody else can write"
        return ""

    async def _succeed(self, asked: Replace, session: Session) -> None:
        python = asked.python or sys.executable
        # What this Python imports from there, another one could not.
        is_same = python == sys.executable
        site = asked.site or (self._options.site if is_same else "")
        needs_zmq = bool(self._doors.endpoints or asked.site)
        try:
            version = await check(python, asked.path, self._watch, needs_zmq=needs_zmq, site=site)
        except ServerStartFailed as refused:
            log.warning("%s", refused)
            session.post(ReplaceFailed(asked.request, refused.what))
        else:
            log.info("giving way to version %s at %s", version, asked.path)
            with uninterrupted():
                await self._give_way(python, asked.path, site)
            self._backlog.go_on()
        finally:
            self._succession = None

    async def _give_way(self, python: str, path: str, site: str) -> None:
        """Becomes the other program.  Returns where that fails, or somebody ends us now."""
        self._backlog.pause()  # what was started now would not be interrupted, either
        if self._returning is not None:
            self._returning.cancel()
        self._visits.tell(Stopping("another version takes over", successor=True))
        await self._doors.hide()
        await self._visits.close(Gone.PARTED)
        self._doors.close()
        await self._register.settle(KILLED_SECONDS)
        if self._ended.done():
            return
        # Nothing is awaited from here on: no command may change while it is written down.
        try:
            self._register.check_settled()
            descriptor, kept = written(os.path.dirname(self._places.lock), self._told)
            try:
                where = ("--resume", str(descriptor), "--state-dir", self._places.state)
                execute(python, [path, "serve", *where, *site_options(site)], kept)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as failed:
            log.error("it could not take over: %s", failed)
        self._visits = Visits(self._answer, self._begin, self._rest)
        await self._doors.open_again()

    def _told(self, carry: Carry) -> Iterator[dict[str, Any]]:
        """All there is to know, for the program that this process becomes."""
        assert self._journal is not None
        yield {
            "options": asdict(self._options),
            "places": asdict(self._places),
            "started": self._started,
            "lock": carry(self._lock.hand_over()),
            "limit": self._limit,
            "doors": self._doors.hand_over(),
            "journal": self._journal.hand_over(),
            "spool": self._spool.hand_over(),
            "audit": self._audit.hand_over(),
        }
        yield from self._register.hand_over(carry)

    # --- clocks

    def _beat(self) -> None:
        for path in (self._places.lock, self._places.socket):
            # A cleaner of /tmp takes what looks old; a server may live for weeks.
            with contextlib.suppress(OSError):
                os.utime(path)
        self._register.tidy()
        self._polls.tidy()
        self._loop.call_later(BEACON_SECONDS, self._beat)
        is_here = not self._ended.done() and self._succession is None
        if is_here and not self._doors.can_be_found:
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
            await self._doors.return_()
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
