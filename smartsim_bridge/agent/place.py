"""Where the agent of one target is to be found on this host, and whether it lives.

A directory that does not cross hosts, whatever the home does.  Its path must be known without
asking anybody: it is written into the shims, and a home is shared by hosts whose variables
differ.  The agent holds a lock for as long as it lives; what stands in the locked file is
true, since nobody else writes there, and the process that it names exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..deadline import Deadline
from ..errors import AgentFailed

__all__ = ["RETIRE", "Place", "State", "place_of"]

# The same everywhere: see above.  Made private below, or refused.
ROOT = "/tmp"  # noqa: S108
LOOK_SECONDS = 0.02
RETIRE = signal.SIGHUP
LEFT_SECONDS = 7 * 86400.0  # after that nobody reads its log any more
END_SECONDS = 10.0  # for an agent that was told to end; it says goodbye to the server first


@dataclass(frozen=True)
class State:
    """What an agent says about itself; `head` and `since`, of the epoch, once it is ready."""

    pid: int
    version: str
    target: str
    head: str = ""
    since: float = 0.0
    is_linked: bool = True


@dataclass(frozen=True)
class Place:
    """The files of one agent; `make` them before anything is put there."""

    directory: str

    @property
    def socket(self) -> str:
        """Where shims are served."""
        return os.path.join(self.directory, "socket")

    @property
    def log(self) -> str:
        """What it, and the one before it, had to say."""
        return os.path.join(self.directory, "log")

    @property
    def _lock(self) -> str:
        return os.path.join(self.directory, "lock")

    @property
    def _starting(self) -> str:
        return os.path.join(self.directory, "starting")

    def make(self) -> None:
        """Raises AgentFailed where somebody else could get at it."""
        agents = os.path.dirname(self.directory)
        for path in (os.path.dirname(agents), agents, self.directory):
            _make_private(path)

    def clear_others(self) -> None:
        """Takes away what agents of other targets have left that nobody has started for long.

        One that was killed cannot do it, nor one whose shims were removed on another host.
        """
        agents = os.path.dirname(self.directory)
        for name in os.listdir(agents):
            other = Place(os.path.join(agents, name))
            if other != self and other._is_left():
                with contextlib.suppress(OSError, AgentFailed), other.starting(0), other.held():
                    shutil.rmtree(other.directory, ignore_errors=True)

    def _is_left(self) -> bool:
        """Whether nobody has been there for long; an agent that serves need not write."""
        if self.state() is not None:
            return False
        try:
            files = [self.directory, *(entry.path for entry in os.scandir(self.directory))]
            latest = max(os.lstat(path).st_mtime for path in files)
        except OSError:
            return False
        return time.time() - latest > LEFT_SECONDS

    def is_held_by(self, descriptor: int) -> bool:
        """Whether who asks for its state hears of the one who holds this, as `held` gave it."""
        try:
            return os.path.samestat(os.stat(self._lock), os.fstat(descriptor))
        except OSError:
            return False

    @contextlib.contextmanager
    def starting(self, seconds: float) -> Iterator[str]:
        """One starter at a time; what was noted when this one came.  Raises AgentFailed."""
        with _opened(self._starting) as descriptor:
            noted = self._noted()
            if not _locked(descriptor, seconds):
                raise AgentFailed(
                    f"Another shim has been starting the agent for {seconds:.0f} s",
                    step="agent",
                    advice="It may be waiting for an answer at its terminal.",
                )
            yield noted

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Holds the agent's lock; what is to be given to `write`.  Raises AgentFailed."""
        with _opened(self._lock) as descriptor:
            # Whoever looks whether it lives holds it for a moment as well.
            if not _locked(descriptor, 1.0):
                raise AgentFailed("Another agent serves this target already", step="agent")
            # Whoever was found there has died, or takes no more shims.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.socket)
            try:
                yield descriptor
            finally:
                os.ftruncate(descriptor, 0)

    @staticmethod
    def write(descriptor: int, state: State) -> None:
        """Says so to whoever reads it while the lock is held."""
        data = json.dumps(asdict(state)).encode()
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))

    def make_room(self, pid: int) -> str:
        """A directory of the agent that holds the lock; those of agents that died go."""
        rooms = os.path.join(self.directory, "rooms")
        _make_private(rooms)
        mine = os.path.join(rooms, str(pid))
        for name in os.listdir(rooms):
            # One that has retired, and still serves a shim, needs its own no more.
            shutil.rmtree(os.path.join(rooms, name), ignore_errors=True)
        os.mkdir(mine, 0o700)
        return mine

    def point_at(self, socket: str) -> None:
        """Shims find this one from now on, in the place of one that died perhaps."""
        fresh = f"{self.socket}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(socket, fresh)
        os.rename(fresh, self.socket)

    def point_away(self, socket: str) -> None:
        """Shims find this one no longer.  Only while its lock is held."""
        with contextlib.suppress(OSError):
            if os.readlink(self.socket) == socket:
                os.unlink(self.socket)

    def state(self) -> State | None:
        """Of the agent that lives; None where there is none."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            # Whoever made this directory before us may name any process of ours in it.
            if os.fstat(descriptor).st_uid != os.getuid() or _try_lock(descriptor):
                return None
            return State(**json.loads(os.pread(descriptor, 65536, 0)))
        except (OSError, ValueError, TypeError):
            return None
        finally:
            os.close(descriptor)

    def retire(self) -> None:
        """The agent, if there is one, serves those that it has, and nobody else any more."""
        self._tell(RETIRE, signal.SIGTERM, signal.SIGKILL)

    def end(self) -> State | None:
        """Ends the agent, if there is one, and the commands of its shims; which one it was."""
        return self._tell(signal.SIGTERM, signal.SIGKILL)

    def _tell(self, *numbers: int) -> State | None:
        """Sends one after the other until it has let go of its lock."""
        state = self.state()
        if state is None:
            return None
        for number in numbers:
            deadline = Deadline(END_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, number)
            while not deadline.is_over:
                now = self.state()
                if now is None or now.pid != state.pid:
                    return state
                time.sleep(LOOK_SECONDS)
        raise AgentFailed(f"The agent, pid {state.pid}, does not end", step="agent")

    def failure_since(self, noted: str) -> dict[str, str | None]:
        """What the start that we waited for came to, if it failed; `noted` was there before.

        No clock has a say: one begins anew with the host, another is set, and the note stays.
        """
        now = self._noted()
        try:
            return dict(json.loads(now)["parts"]) if now != noted else {}
        except (ValueError, TypeError, KeyError):
            return {}

    def note_failure(self, parts: dict[str, str | None]) -> None:
        """For those who wait for this start: a hundred of them must not fail one by one."""
        said = json.dumps({"parts": parts, "name": uuid.uuid4().hex})
        with contextlib.suppress(OSError):  # no room for it: they try for themselves
            Path(self._starting).write_text(said, "utf-8")

    def _noted(self) -> str:
        try:
            return Path(self._starting).read_text("utf-8")
        except (OSError, ValueError):
            return ""


def place_of(wishes: Mapping[str, object]) -> Place:
    """Of the agent that connects as `wishes` say."""
    told = json.dumps(wishes, sort_keys=True).encode()
    name = hashlib.sha256(told).hexdigest()[:16]
    return Place(os.path.join(ROOT, f"smartsim-bridge-{os.getuid()}", "agents", name))


def _make_private(path: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as refused:
        raise AgentFailed(f"Cannot make {path}: {refused.strerror}", step="agent") from None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours:
        raise AgentFailed(f"{path} is not a directory of ours", step="agent")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, seconds: float) -> bool:
    deadline = Deadline(seconds)
    while not _try_lock(descriptor):
        if deadline.is_over:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
