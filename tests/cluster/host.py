"""One host of the cluster, as a test holds it: runs commands inside, sees its files, reboots it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .accounts import ACCOUNTS
from .host_init import BARE_BIN
from .plans import make_plan
from .site import Site
from .topology import Place

__all__ = ["PATH", "Host"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 150.0  # longer than the host itself waits for any of its daemons
END_SECONDS = 60.0  # for processes that were killed to be gone
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
# Lives, with its mounts, until its standard input ends.
_ROOM = f"""
set -e
mount --bind {BARE_BIN} /usr/bin
mount -t tmpfs -o mode=755 tmpfs /etc/slurm
echo ready
exec cat
"""


class Host:
    """A running host; `cluster.host(name)` hands it out."""

    def __init__(self, place: Place, site: Site) -> None:
        self.name = place.name
        self.address = place.address
        self.place = place
        self.pid = 0  # of its PID 1, as this process sees it
        self._site = site
        self._boots = 0
        self._init: subprocess.Popen[str] | None = None
        self._room: subprocess.Popen[str] | None = None

    # --- what tests use -----------------------------------------------------------------------

    def run(
        self,
        *command: str,
        user: str = "root",
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the host as `user`, in its home directory."""
        done = subprocess.run(
            self._inside(command, user),
            input=input,
            env=self._environment(user, env),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)!r} as {user} on {self.name}: exit code {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def popen(
        self,
        *command: str,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Starts a command in the host.  Whoever kills what this returns kills the command."""
        return subprocess.Popen(
            self._inside(command, user),
            env=self._environment(user, env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
        )

    def path(self, inside: str) -> Path:
        """A path of the host as this process sees it.  Absolute links in it lead elsewhere."""
        assert self.is_up(), f"{self.name} is down"
        return Path(f"/proc/{self.pid}/root/{inside.lstrip('/')}")

    def is_up(self) -> bool:
        """Whether `pid` still is that host: the number of a dead one may be anybody's."""
        return self._init is not None and self._init.poll() is None

    def sshd_log(self, port: int = 22) -> str:
        """What that sshd has said since the test began, at LogLevel VERBOSE."""
        log = self.path(f"/var/log/sshd-{port}.log")
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def reboot(self) -> None:
        """Ends everything that runs there at once, and boots again; homes stay."""
        self.shut_down()
        self.boot()
        self.wait_until_ready()

    def runs(self, *command: str) -> bool:
        """Whether a process has just these words: those that are about to become it have more."""
        words = "".join(f"{word}\0" for word in command)
        return any(_text(file) == words for file in self.path("/proc").glob("[0-9]*/cmdline"))

    def hide_slurm(self) -> None:
        """From now on whatever a test runs here finds neither Slurm's commands nor its files.

        The daemons do, and so do jobs: it is as if tests ran in a container on this host.
        """
        if self._room is None:
            self._room = subprocess.Popen(
                # Neither of these forks: what stays is `cat`, under the number that we know.
                ["nsenter", "-t", str(self.pid), "-m", "unshare", "-m", "sh", "-c", _ROOM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._room.stdout is not None
            assert self._room.stdout.readline() == "ready\n"

    def show_slurm(self) -> None:
        """Undoes it, for what is run afterwards."""
        if self._room is not None:
            self._room.communicate(timeout=END_SECONDS)
            self._room = None

    # --- life -----------------------------------------------------------------------------------

    def boot(self) -> None:
        """Starts it, connects it to the router, and does not wait for its daemons."""
        self._boots += 1
        plan = make_plan(self.place, self._site, self._new_root(), self._new_boot_id())
        namespaces = ["--mount", "--uts", "--ipc", "--pid", "--net"]
        log = self._site.path(f"log/{self.name}")
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as errors:
            self._init = subprocess.Popen(
                [
                    *self._site.enter("--mount", "--pid"),
                    *["unshare", *namespaces, "--fork", "--kill-child"],
                    *self._site.python("tests.cluster.host_init"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._site.environment,
            )
        self.pid = int(self._read_line())
        self._say(plan.to_json())
        self._connect()
        self._say("connected")

    def wait_until_ready(self) -> None:
        """Returns once its daemons run."""
        assert self._read_line() == "ready"

    def shut_down(self) -> None:
        """As a power cut."""
        if self.is_up():
            os.kill(self.pid, signal.SIGKILL)
        self.bury()
        self._site.run_ip(f"link del {self._cable}", check=False)
        shutil.rmtree(self._root)

    def bury(self) -> None:
        """Waits for its end, which somebody else has brought about."""
        self.show_slurm()
        if self._init is not None:
            self._init.wait(END_SECONDS)
            for pipe in (self._init.stdin, self._init.stdout):
                assert pipe is not None
                pipe.close()

    @property
    def network(self) -> str:
        """What names its network namespace: all its processes have the same."""
        return os.readlink(f"/proc/{self.pid}/ns/net")

    def empty_scratch(self) -> None:
        """Removes what lies where everybody may write, and what sshd has said."""
        for place in SCRATCH:
            for path in self.path(place).iterdir():
                if self._site.is_shown_below(f"{place}/{path.name}"):
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        for log in self.path("/var/log").glob("sshd-*.log"):
            log.write_bytes(b"")

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _cable(self) -> str:
        return f"to-{self.name}"

    @property
    def _root(self) -> Path:
        return self._site.path(f"root/{self.name}-{self._boots}")

    def _new_root(self) -> str:
        self._root.mkdir(parents=True)
        return self._site.inside(self._root)

    def _new_boot_id(self) -> str:
        path = self._root / "boot_id"
        path.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        return self._site.inside(path)

    def _connect(self) -> None:
        place, cable = self.place, self._cable
        self._site.run_ip(
            f"link add {cable} type veth peer name eth0 netns {self.pid}",
            f"addr add {place.router}/30 dev {cable}",
            f"link set {cable} up",
        )
        self._site.run_ip(
            "link set lo up",
            f"addr add {place.address}/30 dev eth0",
            "link set eth0 up",
            f"route add default via {place.router}",
            pid=self.pid,
        )

    def _inside(self, command: Sequence[str], user: str) -> list[str]:
        assert self.is_up(), f"{self.name} is down"
        # Its home as seen by the same mounts: elsewhere it would have no path.
        files = f"/proc/{self._room.pid if self._room else self.pid}"
        home = f"{files}/root{ACCOUNTS[user].home if user in ACCOUNTS else '/root'}"
        enter = ["nsenter", "-t", str(self.pid), f"--mount={files}/ns/mnt", f"--wd={home}"]
        enter += ["-u", "-i", "-n", "-p"]
        # nsenter stays outside as the parent: whoever ends it must end the command too.
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*enter, "--", *become, "--pdeathsig=KILL", "--", *command]

    def _environment(self, user: str, extra: Mapping[str, str] | None) -> dict[str, str]:
        account = ACCOUNTS.get(user)
        return {
            "HOME": account.home if account else "/root",
            "USER": user,
            "LOGNAME": user,
            "SHELL": account.shell if account else "/bin/bash",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PATH": PATH,
            **(extra or {}),
        }

    def _say(self, line: str) -> None:
        assert self._init is not None
        assert self._init.stdin is not None
        self._init.stdin.write(line + "\n")
        self._init.stdin.flush()

    def _read_line(self) -> str:
        assert self._init is not None
        assert self._init.stdout is not None
        ready, _, _ = select.select([self._init.stdout], [], [], BOOT_SECONDS)
        line = self._init.stdout.readline().strip() if ready else ""
        if not line:
            log = self._site.path(f"log/{self.name}").read_text("utf-8", "replace")
            raise AssertionError(f"{self.name} does not boot:\n{log}")
        return line


def _text(file: Path) -> str:
    """Of a process that may have ended just now."""
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
