"""PID 1 of one host: its own root file system, then its daemons, then reaping.

Started by host.py in fresh mount, uts, ipc, pid and net namespaces.  The root is an overlay
over the machine's, so the host has every program that is installed, and may change or remove
any.  Reads one line of JSON (a `Plan`), and a second line once it has a network; ends with its
standard input.  Standard library only, all of it imported before the root is exchanged.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.first_process import live_until_input_ends

READY_SECONDS = 120.0
SLURM_COMMANDS = "sacct sacctmgr salloc sattach sbatch sbcast scancel scontrol sdiag sinfo"
SLURM_COMMANDS += " sprio squeue sreport srun sshare sstat strigger sview"
GRID_ENGINE_COMMANDS = "qacct qalter qconf qdel qhold qhost qlogin qmod qping qquota qrdel qresub"
GRID_ENGINE_COMMANDS += " qrls qrsh qrstat qrsub qselect qsh qstat qstatus qsub"
BARE_BIN = "/run/without-slurm/bin"
# login1's other doors: port, and what is forbidden there.
STRICT_SSHD = {2200: "AllowTcpForwarding=no", 2201: "MaxSessions=1", 2202: "PermitOpen=none"}


@dataclass(frozen=True)
class Plan:
    """What the host is to become.  Paths are the machine's."""

    name: str
    home: str  # becomes /home
    root: str  # an empty directory on a file system that can be an overlay's upper one
    boot_id: str  # a file
    shown: list[str]  # directories that are seen at the same place, read-only
    files: dict[str, str]  # path -> text, executable where it says #!
    appended: dict[str, str]
    private: dict[str, str]  # path -> text, of mode 0600
    removed: list[str]
    has_sshd: bool = False
    has_slurm: bool = False
    is_controller: bool = False
    is_compute: bool = False
    controller: str = ""
    links: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    # /proc is still the machine's, so this is our number as the tests see it.
    print(os.readlink("/proc/self"), flush=True)
    plan = Plan(**json.loads(sys.stdin.readline()))
    build_root(plan)
    change_root(plan.root)
    write_files(plan)
    sys.stdin.readline()
    for start in daemons(plan):
        start(plan)
    print("ready", flush=True)
    live_until_input_ends()


# --- file systems ---------------------------------------------------------------------------


def build_root(plan: Plan) -> None:
    run("mount", "--make-rprivate", "/")
    top = Path(plan.root)
    lower, upper, work = top / "root", top / "upper", top / "work"
    for directory in (lower, upper, work):
        directory.mkdir()
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, plan.name, str(lower))
    tmpfs = {"dev": 755, "dev/shm": 1777, "run": 755, "tmp": 1777, "var/tmp": 1777, "root": 711}
    for name, mode in tmpfs.items():
        (lower / name).mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"mode={mode}", name, str(lower / name))
    run("mount", "-t", "proc", "proc", str(lower / "proc"))
    run("mount", "-t", "sysfs", "sysfs", str(lower / "sys"))
    run("mount", "--bind", plan.home, str(lower / "home"))
    if plan.is_compute:
        build_bare_bin(lower / BARE_BIN.lstrip("/"), top)
    boot_id = lower / "proc/sys/kernel/random/boot_id"
    run("mount", "--bind", plan.boot_id, str(boot_id))
    make_devices(lower / "dev")
    for path in plan.shown:
        show(path, lower)


def build_bare_bin(place: Path, top: Path) -> None:
    """What /usr/bin would be if no scheduler had ever been installed, for Host.hide_slurm.

    Made now, of the machine's: an overlay of the host's would be one on top of two others,
    where the machine's root is one, and the kernel stacks no more than two.
    """
    upper, work = top / "bare-upper", top / "bare-work"
    for directory in (place, upper, work):
        directory.mkdir(parents=True)
    options = f"lowerdir=/usr/bin,upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "bare-bin", str(place))
    for command in (SLURM_COMMANDS + " " + GRID_ENGINE_COMMANDS).split():
        (place / command).unlink(missing_ok=True)


def make_devices(dev: Path) -> None:
    for name, minor in {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}.items():
        run("mknod", "-m", "666", str(dev / name), "c", "1", str(minor))
    run("mknod", "-m", "666", str(dev / "tty"), "c", "5", "0")
    links = {"fd": "/proc/self/fd", "ptmx": "pts/ptmx"}
    links.update({"stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"})
    for name, target in links.items():
        (dev / name).symlink_to(target)
    (dev / "pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=620,gid=5"
    run("mount", "-t", "devpts", "-o", options, "devpts", str(dev / "pts"))


def show(path: str, root: Path) -> None:
    """Mounts a directory of the machine at its own place, where every account can reach it."""
    place = root / path.lstrip("/")
    for parent in reversed(place.parents):
        if root in parent.parents and parent.is_dir() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o111)  # of the overlay, not of the machine
    place.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", "-o", "ro", path, str(place))


def change_root(top: str) -> None:
    os.chdir(f"{top}/root")
    Path(".former").mkdir()
    run("pivot_root", ".", ".former")
    os.chdir("/")
    run("umount", "--lazy", "/.former")
    Path("/.former").rmdir()


def write_files(plan: Plan) -> None:
    run("hostname", plan.name)
    for pattern in plan.removed:
        for path in Path("/").glob(pattern.lstrip("/")):
            if str(path) not in plan.links.values():
                path.unlink()
    for name, text in plan.files.items():
        write(name, text, 0o755 if text.startswith("#!") else 0o644)
    for name, text in plan.private.items():
        write(name, text, 0o600)
    for name, text in plan.appended.items():
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(text)
    for name, target in plan.links.items():
        Path(name).symlink_to(target)


def write(name: str, text: str, mode: int) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # never through a link
    path.touch(mode)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


# --- daemons --------------------------------------------------------------------------------


def daemons(plan: Plan) -> list[Callable[[Plan], None]]:
    steps: list[Callable[[Plan], None]] = []
    if plan.has_sshd:
        steps.append(start_sshd)
    if plan.has_slurm:
        steps.append(start_munge)
    if plan.is_controller:
        steps += [start_accounting, start_controller]
    if plan.is_compute:
        steps.append(start_node)
    return steps


def start_sshd(plan: Plan) -> None:
    Path("/run/sshd").mkdir(mode=0o755)
    doors = {22: "UseDNS=no", **(STRICT_SSHD if plan.is_controller else {})}
    for port, option in doors.items():
        log, pid = f"/var/log/sshd-{port}.log", f"PidFile=/run/sshd-{port}.pid"
        # It comes back once it listens.
        run("/usr/sbin/sshd", "-E", log, "-p", str(port), "-o", pid, "-o", option)


def start_munge(plan: Plan) -> None:
    for name in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(name).mkdir(mode=0o755, exist_ok=True)
        run("chown", "munge:munge", name)
    run("chown", "-R", "munge:munge", "/etc/munge")
    run("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged")


def start_accounting(plan: Plan) -> None:
    Path("/run/mysqld").mkdir(mode=0o700)
    # A database that is new, dies with its host, and is reached by this host's root only.
    database = ("--no-defaults", "--user=root", "--datadir=/var/lib/cluster-database")
    small = ("--innodb-log-file-size=8M", "--innodb-buffer-pool-size=64M")
    run("mariadb-install-db", *database, *small, "--skip-test-db")
    spawn(
        "mariadbd",
        *(*database, *small),
        "--skip-grant-tables",
        "--skip-networking",
        "--socket=/run/mysqld/mysqld.sock",
        "--innodb-flush-log-at-trx-commit=0",
    )
    until("mariadbd", lambda: _answers("/run/mysqld/mysqld.sock"))
    run("slurmdbd")
    until("slurmdbd", lambda: _answers((plan.controller, 6819)))


def start_controller(plan: Plan) -> None:
    Path("/var/spool/slurmctld").mkdir(exist_ok=True)
    run("slurmctld", "-L", "/var/log/slurmctld.log")


def start_node(plan: Plan) -> None:
    Path("/var/spool/slurmd").mkdir(exist_ok=True)
    # A node that meets no controller at first tries again only much later.
    until("slurmctld", lambda: _answers((plan.controller, 6817)))
    run("slurmd", "-L", "/var/log/slurmd.log")


# --- processes ------------------------------------------------------------------------------


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def spawn(*command: str) -> None:
    with Path(f"/var/log/{command[0]}.log").open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def until(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > end:
            log = Path(f"/var/log/{what}.log")
            said = log.read_text("utf-8", "replace") if log.exists() else ""
            raise SystemExit(f"{what} does not answer\n{said}")
        time.sleep(0.02)


def _answers(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(address) == 0


if __name__ == "__main__":
    main()
