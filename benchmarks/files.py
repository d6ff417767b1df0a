"""Chapter: a large file and many small ones, there and back, and once more where nothing changed.

All go to the same sshd and the same disk.  Files are in the page cache, and each turn begins
with a target that is not there; only "again" finds what it brought.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contestants import open_peers
from .head import BenchHead
from .libraries import paramiko_login
from .peers import Peer
from .rounds import Contest, Parts, Turn, hold, stopwatch

if TYPE_CHECKING:
    from smartsim_bridge import Bridge

__all__ = ["AGAIN", "LARGE_DOWN", "LARGE_UP", "MANY_DOWN", "MANY_UP", "SCP", "measure_files"]

LARGE_UP, LARGE_DOWN = "large up", "large down"
MANY_UP, MANY_DOWN, AGAIN = "many up", "many down", "many again"
SMALL = 4096  # bytes, at most, of each of many
LIMIT = 300.0
MIB = 1 << 20
SCP = "scp"


class Mover(Peer):
    """One that copies: `up` and `down` a file or a folder, `again` where it is there."""

    def call(self) -> None:
        """Nothing to warm."""

    def up(self, local: Path, remote: Path) -> None:
        """To the head."""
        raise NotImplementedError

    def down(self, remote: Path, local: Path) -> None:
        """From it."""
        raise NotImplementedError

    def again(self, local: Path, remote: Path) -> None:
        """What is there already."""
        raise NotImplementedError(f"{self.name} copies it all again")


class BridgeFiles(Mover):
    """put, get and sync over one rung."""

    def __init__(self, transport: str, ssh: str = "auto") -> None:
        self.name = f"bridge {transport}" + (f", {ssh}" if ssh != "auto" else "")
        self.transport = transport
        self.ssh = ssh
        self.bridge: Bridge | None = None

    def open(self, head: BenchHead) -> None:
        """A client of the one server."""
        self.bridge = head.bridge(self.transport, ssh=self.ssh)

    def up(self, local: Path, remote: Path) -> None:
        """put."""
        assert self.bridge is not None
        self.bridge.put(local, remote)

    def down(self, remote: Path, local: Path) -> None:
        """get."""
        assert self.bridge is not None
        self.bridge.get(remote, local)

    def again(self, local: Path, remote: Path) -> None:
        """sync."""
        assert self.bridge is not None
        assert self.bridge.sync(local, remote).files == 0

    def close(self) -> None:
        """The server goes on."""
        if self.bridge is not None:
            self.bridge.close()


class Scp(Mover):
    """`scp -rp`, a new connection each time."""

    name = SCP

    def open(self, head: BenchHead) -> None:
        """With the head's own configuration."""
        self.argv = ["scp", "-rpq", "-F", str(head.sshd.ssh_config), "-o", "BatchMode=yes"]
        self.alias = head.alias

    def up(self, local: Path, remote: Path) -> None:
        """To the head."""
        _run([*self.argv, str(local), f"{self.alias}:{remote}"])

    def down(self, remote: Path, local: Path) -> None:
        """From it."""
        _run([*self.argv, f"{self.alias}:{remote}", str(local)])


class Rsync(Scp):
    """`rsync -a -e ssh`, a new connection each time."""

    name = "rsync -e ssh"

    def why_missing(self) -> str:
        """Where it is not installed."""
        return "" if shutil.which("rsync") else "rsync is not installed"

    def open(self, head: BenchHead) -> None:
        """Without a digest or delta of whole files, as it does by itself for what is new."""
        self.argv = ["rsync", "-a", "-e", f"ssh -F {head.sshd.ssh_config} -o BatchMode=yes"]
        self.alias = head.alias

    def up(self, local: Path, remote: Path) -> None:
        """A slash: what is in the folder, not the folder into the other."""
        super().up(_inside(local), remote)

    def down(self, remote: Path, local: Path) -> None:
        """From it."""
        slash = "/" if remote.is_dir() else ""
        _run([*self.argv, f"{self.alias}:{remote}{slash}", str(local)])

    def again(self, local: Path, remote: Path) -> None:
        """The same once more."""
        self.up(local, remote)


class ParamikoSftp(Mover):
    """SFTP by paramiko, over a connection that is held open."""

    name = "paramiko SFTP"
    needs = "paramiko"

    def open(self, head: BenchHead) -> None:
        """Over a socket of our own, since paramiko sets no TCP_NODELAY."""
        import paramiko

        sshd = head.sshd
        self.client = paramiko.SSHClient()
        self.client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        self.client.connect(sshd.host, sshd.port, sshd.user.name, **paramiko_login(head))
        self.sftp = self.client.open_sftp()

    def up(self, local: Path, remote: Path) -> None:
        """One file after the other, as its interface has it; a large one is pipelined."""
        if not local.is_dir():
            self.sftp.put(str(local), str(remote), confirm=False)
            return
        for place, _, names in os.walk(local):
            there = remote / Path(place).relative_to(local)
            self.sftp.mkdir(str(there))
            for name in names:
                self.sftp.put(os.path.join(place, name), str(there / name), confirm=False)

    def down(self, remote: Path, local: Path) -> None:
        """With prefetching, which is its fastest."""
        if not stat.S_ISDIR(self.sftp.stat(str(remote)).st_mode or 0):
            self.sftp.get(str(remote), str(local))
            return
        local.mkdir()
        for one in self.sftp.listdir_attr(str(remote)):
            self.down(remote / one.filename, local / one.filename)

    def close(self) -> None:
        """Ends the connection."""
        self.client.close()


def measure_files(
    head: BenchHead, large: int, many: int, count: int, chance: random.Random
) -> Contest:
    """A file of `large` bytes and a folder of `many`."""
    place = head.sshd.home / "files"
    _plant(place / "here", large, many, chance)
    movers: list[Peer] = [
        *(BridgeFiles(name) for name in ("local", "direct", "tunnel", "stdio")),
        BridgeFiles("tunnel", "openssh"),
        *(Scp(), Rsync(), ParamikoSftp()),
    ]
    try:
        with ExitStack() as stack:
            ready, missing = open_peers(movers, head, stack)
            turns = {one.name: _turn_of(one, place) for one in ready if isinstance(one, Mover)}
            return hold("files", turns, count, chance, missing)
    finally:
        shutil.rmtree(place)


def _turn_of(mover: Mover, place: Path) -> Turn:
    here, there, back = place / "here", place / "there", place / "back"

    def take() -> Parts:
        for folder in (there, back):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        parts = {
            LARGE_UP: stopwatch(partial(mover.up, here / "large", there / "large")),
            LARGE_DOWN: stopwatch(partial(mover.down, there / "large", back / "large")),
            MANY_UP: stopwatch(partial(mover.up, here / "many", there / "many")),
            MANY_DOWN: stopwatch(partial(mover.down, there / "many", back / "many")),
        }
        _check(here, back)
        if _can_again(mover):
            parts[AGAIN] = stopwatch(partial(mover.again, here / "many", there / "many"))
        return parts

    return take


def _can_again(mover: Mover) -> bool:
    return type(mover).again is not Mover.again


def _plant(place: Path, large: int, many: int, chance: random.Random) -> None:
    (place / "many").mkdir(parents=True)
    with open(place / "large", "wb") as file:
        file.writelines(chance.randbytes(MIB) for _ in range(large // MIB))
    for number in range(many):
        folder = place / "many" / str(number % 20)
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_bytes(chance.randbytes(chance.randrange(SMALL)))


def _check(here: Path, back: Path) -> None:
    """That it moved what it should."""
    assert (back / "large").stat().st_size == (here / "large").stat().st_size
    counts = [sum(one.is_file() for one in (place / "many").rglob("*")) for place in (here, back)]
    assert counts[0] == counts[1], counts


def _inside(path: Path) -> Any:
    return f"{path}/" if path.is_dir() else path


def _run(argv: list[str]) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=LIMIT)
