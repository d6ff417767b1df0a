"""One command: bytes, numbers and states around a process, and the session that follows it.

Translates between the protocol's messages and a `Process`: numbers output, grants credit
for input, keeps the timers (time limit, grace), tells exit code and signal apart.  Goes on
when its follower is gone, for as long as was agreed, and says where it is to the next one.
Knows no link: what it has to say is `post`ed to the follower.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from signal import NSIG, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM
from typing import Any

from ..protocol import codec
from ..protocol.lifecycle import Input as Event
from ..protocol.lifecycle import Lifecycle, State
from ..protocol.messages import (
    OUTPUT_GONE,
    STDERR,
    STDOUT,
    Attach,
    Attached,
    Detached,
    Exited,
    Input,
    InputTaken,
    Lost,
    Message,
    Output,
    Start,
    Started,
    StartFailed,
)
from ..protocol.polls import Key
from ..protocol.submission import submits
from .alarms import Alarms
from .beacon_file import process_start
from .handover import Carry
from .inlets import Inlet
from .journal import STORED
from .outlets import Outlet
from .processes import Process
from .recipes import Recipe
from .runs import Seat
from .surroundings import Absent, Follower, Gone, Surroundings

__all__ = ["Command"]

END_SECONDS = 0.005  # the end of a stream is told on its own only if the exit does not follow
KILL_AFTER = 10.0  # seconds between SIGTERM and SIGKILL when its client is gone
MAX_WAITING_BYTES = 64 * 1024 * 1024  # a queue of ten thousand must not fill a login node
ENDING = frozenset({SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM})  # what a user ends a command with


class Command:
    """One command; `start` it once, then feed it the client's messages."""

    def __init__(
        self,
        request: Start,
        surroundings: Surroundings,
        follower: Follower,
        on_over: Callable[[Command], None],
        program: str = "",
    ) -> None:
        self.id = request.command
        self.request = request
        self.keep = submits(request.argv, request.shell) if request.keep is None else request.keep
        self.lifecycle = Lifecycle()
        self.owner = follower.id
        self._surroundings = surroundings
        self._follower: Follower | None = follower
        self._on_over = on_over
        self._process: Process | Seat | None = None
        self._recipe = Recipe(request, surroundings, program)
        self._outlets = {stream: self._open(stream) for stream in (STDOUT, STDERR)}
        self._inlet = Inlet(self._say_taken)
        self._unwanted: set[int] = set()  # streams whose reader has closed them
        self._waits_with = 0  # bytes that it holds while it waits for its turn
        self._signals = 0  # obeyed, of the session that follows it
        self._failure: StartFailed | None = None
        self._timed_out = False
        self._alarms = Alarms(lambda what, detail: _ACTIONS[what](self, detail))
        self._grace: asyncio.TimerHandle | None = None

    # --- what the client asks

    def wait_with(self, size: int) -> None:
        """It must wait, and holds `size` more bytes meanwhile, for which there may be no room."""
        if self.lifecycle.is_over:
            return
        self._waits_with += size
        self._surroundings.waiting_bytes += size
        if self._surroundings.waiting_bytes > MAX_WAITING_BYTES:
            text = f"{MAX_WAITING_BYTES >> 20} MiB of requests and input wait already"
            self.fail(errno.ENOBUFS, text, "")

    def start(self) -> None:
        """Starts the process, or says why it cannot be."""
        try:
            self._process = self._recipe.start(self, self.owner)
        except OSError as refused:
            filename = refused.filename if isinstance(refused.filename, str) else ""
            self.fail(refused.errno or 0, refused.strerror or str(refused), filename)
        except (ValueError, TypeError, IndexError) as wrong:  # a NUL byte, an empty argv
            self.fail(errno.EINVAL, str(wrong), "")
        else:
            self._has_started(self._process.pid)

    def fail(self, number: int, text: str, filename: str) -> None:
        """It does not start, and this is why."""
        self.lifecycle.move(Event.START_FAILED)
        self._waits_no_more()
        self._surroundings.audit.failed(self.id, number, text)
        self._failure = StartFailed(self.id, number, text, filename)
        self._post(self._failure)
        self._surroundings.journal.failed(self.id, number, text, filename)
        self._on_over(self)

    def input(self, message: Input) -> None:
        """Bytes for stdin."""
        early = self._inlet.accept(message.offset, message.payload, message.eof)
        if early:
            self.wait_with(early)

    def output_taken(self, stream: int, offset: int) -> None:
        """The client has that much, and room for as much again."""
        outlet = self._outlets.get(stream)
        if outlet is not None:
            was_sent = outlet.is_sent
            self._guarded(lambda: outlet.acknowledge(offset))
            if not was_sent:  # else that was told already
                if outlet.is_finished:
                    self._tell_end_of(stream)
                self._tell_end()
            if self._process is not None:
                self._process.resume(stream)

    def close_output(self, stream: int) -> None:
        """The client reads that stream no more."""
        outlet = self._outlets.get(stream)
        if outlet is not None:
            self._unwanted.add(stream)
            outlet.skip()
            if self._process is not None:
                self._process.close_output(stream)
            self._tell_end()

    def signal(self, number: int) -> None:
        """Sends a signal to the process group; one that waits for its turn may never get it."""
        self._signals += 1
        if self._process is not None and 0 < number < NSIG:
            self._process.signal_group(number)
        elif self._process is None and number in ENDING:
            self.terminate(0.0)

    def terminate(self, grace: float, number: int = SIGTERM) -> None:
        """A signal to the group, and SIGKILL to what is left of it after `grace` seconds.

        After any other than SIGTERM that one comes in between.  One that waits for its turn
        never gets it.
        """
        if self._process is None and not self.lifecycle.is_over:
            self.fail(errno.ECANCELED, os.strerror(errno.ECANCELED), "")
        elif self._process is not None and not self.lifecycle.is_over:
            number = number if 0 < number < NSIG else SIGTERM
            following = "kill" if number == SIGTERM else "terminate"
            self._alarms.set(max(0.0, grace), following, grace)  # first: it may be over at once
            self._process.signal_group(number)
            # A stopped process would take the signal only when somebody continues it.
            self._process.signal_group(SIGCONT)

    def kill(self) -> None:
        """Ends it now."""
        if self._process is not None and not self.lifecycle.is_over:
            self._process.kill()

    # --- who follows it

    @property
    def key(self) -> Key | None:
        """What it asks the scheduler, where others may ask the same."""
        return self._recipe.key

    @property
    def follower(self) -> Follower | None:
        """The session that reads it now."""
        return self._follower

    @property
    def pid(self) -> int:
        """Of the process; 0 while it waits for its turn."""
        return self._process.pid if self._process is not None else 0

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bytes it has printed: stdout, stderr."""
        return self._outlets[STDOUT].end, self._outlets[STDERR].end

    @property
    def age(self) -> float:
        """How many seconds before it was asked its answer began to be made; else 0."""
        return self._process.age if isinstance(self._process, Seat) else 0.0

    @property
    def why_paused(self) -> str:
        """Why it cannot print on though nobody is slow; empty where it can."""
        return self._outlets[STDOUT].why_full or self._outlets[STDERR].why_full

    def follow(self, follower: Follower, asked: Attach) -> None:
        """From now on it talks to `follower`, who has all output below the offsets asked.

        One that means to go on, and has not heard that another took it over, is told instead.
        """
        if asked.resume and follower.id != self.owner:
            follower.post(Detached(self.id))
            return
        before, self._follower = self._follower, follower
        if follower.id != self.owner:
            if before is not None:
                before.post(Detached(self.id))
            self.owner, self._signals = follower.id, 0
        self._forget_grace()
        if self._failure is not None:
            self._post(self._failure)
            return
        begins = [
            self._outlets[stream].follow(offset)
            for stream, offset in ((STDOUT, asked.stdout), (STDERR, asked.stderr))
        ]
        self._say_where(*begins)

    def unfollow(self, gone: Gone) -> None:
        """Its client is gone; it may come back."""
        self._leave()
        if self.keep or self.lifecycle.is_over:
            return
        grace = gone.value if self.request.grace is None else self.request.grace
        loop = asyncio.get_running_loop()
        self._grace = loop.call_later(grace, self.terminate, KILL_AFTER)

    def look_for_room(self) -> None:
        """Now and then, while nobody follows it: the disk may have room again."""
        if self._follower is None and self._process is not None:
            for stream, outlet in self._outlets.items():
                if outlet.room > 0:
                    self._process.resume(stream)

    def detach(self) -> None:
        """Its client lets go of it on purpose: it goes on."""
        self.keep = True
        self.owner = ""
        for outlet in self._outlets.values():
            outlet.retain = True
        self._leave()

    def close(self) -> None:
        """Forgets what it printed: nobody will ask any more, or there is no room for it."""
        if self._failure is None and not self._is_sent:
            self._post(Lost(self.id, OUTPUT_GONE, "The rest of its output is not kept any more"))
        for outlet in self._outlets.values():
            outlet.close()

    # --- from one program to the next

    def hand_over(self, carry: Carry) -> dict[str, Any]:
        """All there is to know of it, but its follower, who has to come back."""
        failure, process = self._failure, self._process
        return {
            "request": codec.encode(self.request)[0],
            "failure": None if failure is None else codec.encode(failure)[0],
            "program": self._recipe.program,
            "keep": self.keep,
            "owner": self.owner,
            "state": self.lifecycle.state.value,
            "process": None if process is None else process.hand_over(carry),
            "outlets": [[stream, one.hand_over()] for stream, one in self._outlets.items()],
            **self._inlet.hand_over(),
            "unwanted": sorted(self._unwanted),
            "signals": self._signals,
            "timed_out": self._timed_out,
            "due": self._alarms.hand_over(),
            "grace": None if self._grace is None else self._grace.when(),
        }

    @classmethod
    def take_over(
        cls, past: dict[str, Any], surroundings: Surroundings, on_over: Callable[[Command], None]
    ) -> Command:
        """The command as another program has left it, with nobody who follows it."""
        request = codec.decode([past["request"]])
        assert isinstance(request, Start)
        self = cls(request, surroundings, Absent(past["owner"]), on_over, past["program"])
        self._follower = None
        self.keep = past["keep"]
        self.lifecycle.state = State(past["state"])
        for stream, outlet in past["outlets"]:
            self._outlets[stream].take_over(outlet)
        self._unwanted = set(past["unwanted"])
        self._signals, self._timed_out = past["signals"], past["timed_out"]
        if past["failure"] is not None:
            failure = codec.decode([past["failure"]])
            assert isinstance(failure, StartFailed)
            self._failure = failure
        if past["process"] is not None:
            is_shared = "run" in past["process"]
            take_over = surroundings.polls.take_over if is_shared else Process.take_over
            self._process = take_over(past["process"], self, surroundings.watch)
        self._inlet.take_over(past, self._process)
        self._waits_with = len(self._inlet.early)
        surroundings.waiting_bytes += self._waits_with
        self._alarms.take_over(past["due"])
        if past["grace"] is not None:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_at(past["grace"], self.terminate, KILL_AFTER)
        return self

    # --- what the process does (processes.Owner)

    def room(self, stream: int) -> int:
        """How much can be taken now."""
        return self._outlets[stream].room

    def spare(self, stream: int) -> int:
        """How much could be kept beyond that."""
        return self._outlets[stream].spare

    def output(self, stream: int, data: bytes, eof: bool) -> None:
        """Numbers it and sends it on."""
        outlet = self._outlets[stream]
        if data:
            self._make_known()
            self._guarded(lambda: outlet.take(data))
        if eof:
            outlet.is_finished = True
            # Nearly always the process ends now too, and its final Exited tells both.
            self._alarms.set(END_SECONDS, "tell the end of", stream)

    def input_written(self, count: int, broken: bool) -> None:
        """Grants the client as much again."""
        self._inlet.written(count, broken)

    def exited(self) -> None:
        """Tells it; what it wrote may still be on its way."""
        self._make_end_known()
        self.lifecycle.move(Event.EXITED)
        self._post(self._exit_message(final=False))
        self._take_the_last()

    def drained(self) -> None:
        """Tells the end of it all."""
        self._make_end_known()
        if self.lifecycle.state is State.RUNNING:
            self.lifecycle.move(Event.EXITED)
        self.lifecycle.move(Event.DRAINED)
        self._tell_end()
        self._over()

    # --- inside

    def _open(self, stream: int) -> Outlet:
        def send(offset: int, data: bytes) -> None:
            self._post(Output(self.id, stream, offset, payload=data))

        kept = self._surroundings.spool.keep(self.id, stream)
        outlet = Outlet(kept, send, retain=self.keep)
        outlet.follow(0)
        return outlet

    def _has_started(self, pid: int) -> None:
        request = self.request
        self.lifecycle.move(Event.STARTED)
        # A short command is over before anybody could ask whether it still runs.
        started = process_start(pid) if request.announce or self.keep else 0
        self._surroundings.journal.started(self.id, pid, started)
        self._surroundings.audit.began(self.id, pid, self.age)
        if request.announce:
            self._post(Started(self.id, pid))
        if request.timeout is not None:
            self._alarms.set(request.timeout, "run out")
        if not self._recipe.is_poll:
            self._make_known()
        if self._process is not None:
            self._inlet.open(self._process)
        self._waits_no_more()
        if isinstance(self._process, Seat):
            self._process.take()
        for stream in self._unwanted:
            if self._process is not None:
                self._process.close_output(stream)

    def _make_known(self) -> None:
        """A poll that is asked for from now on must not miss what this one did, or told."""
        if self._recipe.is_poll:
            self._surroundings.polls.learn(self.owner)
        else:
            self._surroundings.polls.outdate()

    def _make_end_known(self) -> None:
        # The end of a poll says no more than what it printed, where it printed anything.
        if not self._recipe.is_poll or self.sizes == (0, 0):
            self._make_known()

    def _waits_no_more(self) -> None:
        self._inlet.early.clear()
        self._surroundings.waiting_bytes -= self._waits_with
        self._waits_with = 0

    def _post(self, message: Message) -> None:
        if self._follower is not None:
            self._follower.post(message)

    def _say_taken(self, offset: int, broken: bool) -> None:
        self._post(InputTaken(self.id, offset, broken))

    def _say_where(self, stdout: int, stderr: int) -> None:
        """All that a follower must know who may have missed anything."""
        request = self.request
        streams = (request.stdin, request.stdout, request.stderr)
        begin, taken, is_closed = self._inlet.where()
        self._post(
            Attached(self.id, self.pid, stdout, stderr, begin, self._signals, request.argv, streams)
        )
        self._say_taken(taken, is_closed)
        for stream, outlet in self._outlets.items():
            self._guarded(outlet.pump)
            if outlet.is_finished:
                self._tell_end_of(stream)
            if self._process is not None:
                self._process.resume(stream)
        is_unread = self.lifecycle.state is State.OVER and not self._is_sent
        if is_unread or self.lifecycle.state is State.EXITED:
            self._post(self._exit_message(final=False))
        self._tell_end()

    def _take_the_last(self) -> None:
        """What an ended one left in its pipes is taken even where the spool is full.

        Else it would be there for ever, and hold what it has in the spool.
        """
        if self._follower is None and self._process is not None:
            for stream, outlet in self._outlets.items():
                outlet.let_finish()
                self._process.resume(stream)

    def _tell_end_of(self, stream: int) -> None:
        outlet = self._outlets[stream]
        if outlet.is_sent:
            self._post(Output(self.id, stream, outlet.end, eof=True))

    def _tell_end(self) -> None:
        """Its last word, once the follower was sent all that came before."""
        if self.lifecycle.state is State.OVER and self._is_sent:
            self._post(self._exit_message(final=True))

    @property
    def _is_sent(self) -> bool:
        return all(outlet.is_sent for outlet in self._outlets.values())

    def _guarded(self, action: Callable[[], None]) -> None:
        """Does what may read the spool; whoever follows is told where that is damaged."""
        try:
            action()
        except OSError as damaged:
            self._post(Lost(self.id, OUTPUT_GONE, f"Its kept output cannot be read: {damaged}"))
            self.unfollow(Gone.BROKEN)

    def _leave(self) -> None:
        self._follower = None
        self._forget_grace()
        for stream, outlet in self._outlets.items():
            outlet.leave()
            if self._process is not None:
                self._process.resume(stream)  # the spool may have room where he had none
        if self.lifecycle.state is State.EXITED:
            self._take_the_last()

    def _forget_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _exit_message(self, final: bool) -> Exited:
        code = self._process.returncode if self._process is not None else None
        by_signal = code is not None and code < 0
        return Exited(
            self.id,
            code=None if by_signal else code,
            signal=-code if code is not None and by_signal else None,
            timed_out=self._timed_out,
            final=final,
            age=self.age,
        )

    def _run_out(self) -> None:
        self._timed_out = True
        self.kill()

    def _over(self) -> None:
        self._alarms.clear()
        self._forget_grace()
        end = self._exit_message(final=True)
        out, err = (outlet.whole(STORED) for outlet in self._outlets.values())
        journal = self._surroundings.journal
        journal.ended(self.id, end.code, end.signal, end.timed_out, out, err)
        self._surroundings.audit.ended(self.id, end.code, end.signal)
        self._on_over(self)

    def __repr__(self) -> str:
        return f"<Command {self.id[:8]} {self.lifecycle.state.value}: {self._process}>"


_ACTIONS: dict[str, Callable[[Command, float], None]] = {
    "run out": lambda command, _: command._run_out(),
    "kill": lambda command, _: command.kill(),
    "terminate": lambda command, grace: command.terminate(grace),
    "tell the end of": lambda command, stream: command._tell_end_of(int(stream)),
}
