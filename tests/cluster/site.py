"""What the hosts have in common: the router's namespaces, a file system, keys, what they see.

One per cluster.  Everything lives in the memory of processes below this one: a test process
that is killed takes it along, and nothing of it has a name that another one could meet.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from .accounts import KeyRing, write_homes
from .topology import HOSTS, LOGIN_ADDRESS, LOGIN_ALIAS, LOGIN_TURNS

__all__ = ["CLONE", "EMPTY_PLACES", "Site", "other_pythons"]

CLONE = Path(__file__).resolve().parents[2]

# The shared file system is mounted over one of these, in a mount namespace of its own.
EMPTY_PLACES = ("/mnt", "/media", "/srv", "/opt")
# Every host has these anyway.
SYSTEM = (Path("/usr"), Path("/etc"), Path("/lib"))
STRICT_PORTS = (2200, 2201, 2202)
KEY_SECONDS = 60.0
END_SECONDS = 60.0  # for all processes of the site to be gone


class Site:
    """The router, running, and what hosts are made from."""

    def __init__(self) -> None:
        self.shown = _shown_directories()
        self._base = next(
            place
            for place in EMPTY_PLACES
            if Path(place).is_dir() and not any(one.startswith(place) for one in self.shown)
        )
        self.environment = {**os.environ, "PYTHONPATH": str(CLONE), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [
                *["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"],
                *self.python("tests.cluster.router_init", self._base),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())
        self.munge_key = secrets.token_hex(64)
        self._make_keys()

    def close(self) -> None:
        """Ends all of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_SECONDS)
        self._process.stdout.close()

    # --- files ------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """A path of the shared file system, as this process sees it."""
        return Path(f"/proc/{self.pid}/root{self._base}/{name}")

    def inside(self, path: Path) -> str:
        """The same path as a host that boots sees it."""
        return str(path)[len(f"/proc/{self.pid}/root") :]

    def write_homes(self) -> None:
        """All home directories, as on their first day."""
        for home in {place.home for place in HOSTS.values()}:
            sharing = [place for place in HOSTS.values() if place.home == home]
            write_homes(
                self.path(f"home-{home}"),
                self.keys,
                has_sshd=any(place.has_sshd for place in sharing),
                is_head=any(place.is_head for place in sharing),
            )

    def is_shown_below(self, directory: str) -> bool:
        """Whether a directory leads to one that hosts see of the machine."""
        return any(f"{one}/".startswith(f"{directory}/") for one in self.shown)

    def host_key(self, host: str) -> str:
        return self.path(f"keys/{host}").read_text("ascii")

    # --- processes --------------------------------------------------------------------------------

    def enter(self, *namespaces: str) -> list[str]:
        """The beginning of a command that is to run in namespaces of the router."""
        return ["nsenter", "-t", str(self.pid), *namespaces, "--"]

    def python(self, module: str, *arguments: str) -> list[str]:
        """A module of the tests that needs the standard library only."""
        return [sys.executable, "-S", "-m", module, *arguments]

    def run_ip(self, *lines: str, pid: int | None = None, check: bool = True) -> None:
        """Runs lines of `ip` in the network of a host, or of the router."""
        subprocess.run(
            ["nsenter", "-t", str(pid or self.pid), "-n", "--", "ip", "-batch", "-"],
            input="\n".join(lines) + "\n",
            text=True,
            check=check,
            stderr=None if check else subprocess.DEVNULL,
        )

    def run_nft(self, rules: str) -> str:
        done = subprocess.run(
            [*self.enter("-n"), "nft", "-f", "-"],
            input=rules,
            text=True,
            check=True,
            stdout=subprocess.PIPE,
        )
        return done.stdout

    # --- keys -------------------------------------------------------------------------------------

    def _make_keys(self) -> None:
        directory = self.path("keys")
        directory.mkdir(mode=0o700)
        makers = [_start_keygen(directory / name) for name in (*HOSTS, "user")]
        makers.append(_start_keygen(directory / "locked", "sesame"))
        for maker in makers:
            assert maker.wait(KEY_SECONDS) == 0
        self.keys = KeyRing(
            key=self.host_key("user"),
            public=self.host_key("user.pub"),
            locked_key=self.host_key("locked"),
            locked_public=self.host_key("locked.pub"),
            known_hosts=self._known_hosts(),
        )

    def _known_hosts(self) -> str:
        lines = []
        for place in HOSTS.values():
            names = [place.name, place.address]
            names += [f"[{name}]:{port}" for name in names for port in STRICT_PORTS]
            if place.name in LOGIN_TURNS:
                names += [LOGIN_ALIAS, LOGIN_ADDRESS]
            public = self.host_key(f"{place.name}.pub").split()[:2]
            lines.append(f"{','.join(names)} {' '.join(public)}\n")
        return "".join(lines)


def _start_keygen(path: Path, passphrase: str = "") -> subprocess.Popen[bytes]:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name]
    return subprocess.Popen([*command, "-f", str(path)], stdin=subprocess.DEVNULL)


def _shown_directories() -> list[str]:
    """The clone, and the Pythons and their packages that are not part of the system."""
    wanted = [CLONE, Path(sys.prefix), Path(sys.base_prefix), *other_pythons()]
    wanted += [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    shown: list[str] = []
    for path in wanted:
        is_there = any(one == path or one in path.parents for one in (*SYSTEM, *map(Path, shown)))
        if path.is_dir() and not is_there:
            shown.append(str(path))
    return shown


def other_pythons() -> list[Path]:
    """Where pyenv keeps its versions, if it is there."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [root / "versions"] if (root / "versions").is_dir() else []
