"""A real OpenSSH server on 127.0.0.1, for one test or many.

    with Sshd(user, ["AllowTcpForwarding no"]) as sshd:
        target = sshd.target()

It has its own directory, host keys, configuration and authorised key, and its sessions have
a home directory of their own (`sshd.home`), whatever the account's home is: test runs of the
same machine do not meet there.  Everything goes away with it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from smartsim_bridge.ssh.target import Target, resolve_target

from .users import User, is_root
from .waiting import wait_until

__all__ = ["ALIAS", "HOST_KEY_TYPES", "SSHD", "Sshd", "make_key"]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))

# What an sshd has as a rule, and in the order of ssh-keygen -A.
HOST_KEY_TYPES = ("ed25519",)

READY_SECONDS = 60.0
END_SECONDS = 60.0

ALIAS = "head"


class Sshd:
    """A running sshd into which `user` logs in with the key `identity`.

    `config` are lines of sshd_config; the first value of a keyword wins there, so they win
    over ours.  `environment` is set in every session.  An `authority` is a key that signs
    the host keys, so that the server shows certificates of its address.
    """

    def __init__(
        self,
        user: User,
        config: Sequence[str] = (),
        *,
        host_key_types: Sequence[str] = HOST_KEY_TYPES,
        environment: Mapping[str, str] | None = None,
        authority: Path | None = None,
    ) -> None:
        assert SSHD is not None, "there is no sshd; ask the fixture, which skips"
        self.user = user
        self.host = "127.0.0.1"
        # Short, for unix sockets in it, and open to the user, who need not be us.
        self.directory = Path(tempfile.mkdtemp(prefix="ssb-sshd-"))
        self.directory.chmod(0o755)
        self.home = self.directory / "home"
        self.home.mkdir(mode=0o700)
        user.own(self.home)
        # What is ours: the near side's home directory, with its ~/.ssh.
        self.near_home = self.directory / "near"
        (self.near_home / ".ssh").mkdir(parents=True, mode=0o700)
        self.identity = make_key(self.near_home / ".ssh" / "id_ed25519")
        self.known_hosts = self.near_home / ".ssh" / "known_hosts"
        self.ssh_config = self.near_home / ".ssh" / "config"
        self._authorized_keys = self.directory / "authorized_keys"
        self.authorize(self.identity)
        self._environment = {"HOME": str(self.home), **(environment or {})}
        self._lines = list(config)
        self.host_keys = [
            make_key(self.directory / f"host_{kind}", kind) for kind in host_key_types
        ]
        for key in self.host_keys if authority is not None else ():
            self._lines.append(f"HostCertificate {_certify(key, authority, self.host)}")
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        # A file, not a pipe: what sshd has written is there to be read at once.
        self._log = self.directory / "sshd.log"
        self._log.touch()

    # --- what a test needs to know --------------------------------------------------------

    @property
    def host_key_lines(self) -> list[str]:
        """The host keys as `type base64`, in the order of their kinds."""
        publics = [Path(f"{key}.pub").read_text("ascii") for key in self.host_keys]
        return [" ".join(public.split()[:2]) for public in publics]

    @property
    def log(self) -> str:
        """What sshd said so far, at LogLevel VERBOSE."""
        return self._log.read_text("utf-8", "replace")

    def wait_for_log(self, text: str, seconds: float = READY_SECONDS) -> str:
        """The log, once `text` is in it; AssertionError with the log if that takes too long."""
        try:
            wait_until(lambda: text in self.log, seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in the log:\n{self.log}") from None
        return self.log

    def target(self, spelled: str = ALIAS, **keywords: str | int | None) -> Target:
        """The target, as the near side resolves it by its own ssh_config only."""
        keywords.setdefault("ssh_config", str(self.ssh_config))
        return resolve_target(
            spelled,
            local_user=self.user.name,
            home=str(self.near_home),
            **keywords,  # type: ignore[arg-type]
        )

    def authorize(self, key: Path) -> None:
        """Lets the user in with this key too."""
        with self._authorized_keys.open("a") as file:
            file.write(Path(f"{key}.pub").read_text("ascii"))

    def ssh_command(self, *arguments: str) -> list[str]:
        """The system's ssh, with the same configuration."""
        return ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", ALIAS, *arguments]

    def seen_at(self, port: int) -> Sshd:
        """The same one, where something at that port of this host leads to it."""
        other = copy.copy(self)
        other.port = port
        other.near_home = self.directory / f"near-{port}"
        (other.near_home / ".ssh").mkdir(parents=True, mode=0o700)
        other.known_hosts = other.near_home / ".ssh" / "known_hosts"
        other.ssh_config = other.near_home / ".ssh" / "config"
        other._write_near_side()
        return other

    # --- life -----------------------------------------------------------------------------

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and waits until it listens; the near side then knows its host keys."""
        assert SSHD is not None
        if is_root():
            # Where the distribution makes it only when its service starts.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for _attempt in range(5):
            self.port = _free_port()
            config = self._write_config()
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [SSHD, "-D", "-e", "-f", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    # Its sessions' process groups and ours stay apart.
                    start_new_session=True,
                )
            if self._wait_until_it_listens():
                break
        else:
            raise AssertionError(f"sshd does not start:\n{self.log}")
        self._write_near_side()

    def stop(self) -> None:
        """Ends the listener and the sessions, and removes the directory."""
        self.kill_sessions()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(END_SECONDS)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill_sessions(self) -> None:
        """Ends the connections that are open, as a network that breaks would."""
        open_now = set(self.session_pids())
        for pid in open_now:
            with contextlib.suppress(ProcessLookupError):  # ended by itself just now
                os.kill(pid, signal.SIGTERM)
        # sshd hands the signal on to the process that holds the connection, and that one may
        # carry what comes until then.
        wait_until(lambda: open_now.isdisjoint(self.session_pids()), END_SECONDS)

    def session_pids(self) -> list[int]:
        """The processes of sshd that serve a connection each."""
        if self._process is None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text("ascii").split()]

    # --- inside ---------------------------------------------------------------------------

    def _write_config(self) -> Path:
        settings = " ".join(f"{name}={value}" for name, value in self._environment.items())
        lines = [
            f"ListenAddress {self.host}:{self.port}",
            *self._lines,
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self._authorized_keys}",
            "PidFile none",
            "StrictModes no",
            "LogLevel VERBOSE",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
            # So that a test may fail as often as it wants to.
            "MaxStartups 100:30:200",
            "PerSourcePenalties no",
            f"UsePAM {'yes' if is_root() else 'no'}",
            f"SetEnv {settings}",
        ]
        if not _knows("PerSourcePenalties"):
            lines.remove("PerSourcePenalties no")
        path = self.directory / "sshd_config"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def _write_near_side(self) -> None:
        names = f"[{self.host}]:{self.port}"
        self.known_hosts.write_text(
            "".join(f"{names} {line}\n" for line in self.host_key_lines), encoding="ascii"
        )
        self.ssh_config.write_text(
            f"Host {ALIAS}\n"
            f"  HostName {self.host}\n"
            f"  Port {self.port}\n"
            f"  User {self.user.name}\n"
            f"  IdentityFile {self.identity}\n"
            f"  IdentitiesOnly yes\n"
            f"  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
            f"  GlobalKnownHostsFile none\n",
            encoding="utf-8",
        )

    def _wait_until_it_listens(self) -> bool:
        process = self._process
        assert process is not None
        ready = f"Server listening on {self.host} port {self.port}"
        with contextlib.suppress(AssertionError):
            wait_until(lambda: ready in self.log or process.poll() is not None, READY_SECONDS)
        if ready in self.log and process.poll() is None:
            return True
        process.kill()
        process.wait()
        return False


def make_key(
    path: Path, kind: str = "ed25519", passphrase: str = "", options: Sequence[str] = ()
) -> Path:
    """A new key pair at `path` and `path`.pub."""
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            kind,
            "-N",
            passphrase,
            "-C",
            "a test",
            "-f",
            str(path),
            *options,
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def _certify(key: Path, authority: Path | None, host: str) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-h", "-n", host, f"{key}.pub"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return Path(f"{key}-cert.pub")


def _free_port() -> int:
    # sshd takes no port 0.  Somebody may take the number first: then start() tries another.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _knows(keyword: str) -> bool:
    assert SSHD is not None
    done = subprocess.run(
        [SSHD, "-t", "-f", "/dev/null", "-o", f"{keyword}=no"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "Bad configuration option" not in done.stderr
