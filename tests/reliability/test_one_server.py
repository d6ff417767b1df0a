"""One server per user and node, whoever starts one, however many at once, wherever they land."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from smartsim_bridge.protocol.beacon import Beacon
from tests.server.running import Fleet, is_running
from tests.support.figures import Figure
from tests.support.heads import MakeHead, servers_in, stop_servers
from tests.support.heads import is_running as pid_is_running
from tests.support.sshd import SSHD
from tests.support.users import User
from tests.support.waiting import wait_until

SECONDS = 60.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    servers = Fleet(tmp_path / "state")
    try:
        yield servers
    finally:
        servers.close()


# --- races --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("starters", "rounds"),
    [
        (2, 8),
        (20, 4),
        pytest.param(20, 100, marks=pytest.mark.soak),
        pytest.param(100, 10, marks=pytest.mark.soak),
    ],
)
def test_racing_starts_make_one_server_in_every_round(
    starters: int, rounds: int, fleet: Fleet, figure: Figure
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    slowest = 0.0
    for _ in range(rounds):
        began = time.monotonic()
        launched = [fleet.launch() for _ in range(starters)]
        found = {fleet.finish(*one)[0] for one in launched}
        slowest = max(slowest, time.monotonic() - began)
        assert len(found) == 1
        (beacon,) = found
        assert is_running(beacon)
        assert servers_in(fleet.state) == [beacon]
        fleet.stop(beacon, chance.choice([signal.SIGTERM, signal.SIGKILL]))
    # Named by the crowd: the largest of each name stays, and must not tell of a run that never was.
    reached = {f"rounds_of_{starters}": rounds, f"slowest_round_of_{starters}_seconds": slowest}
    figure(17, **reached)


@pytest.mark.slow
def test_starter_killed_at_any_moment_stops_nobody(fleet: Fleet, figure: Figure) -> None:
    """With it the server that it began, whatever that held."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rounds = 20
    for _ in range(rounds):
        process, _ = fleet.launch(start_new_session=True)
        moment = time.monotonic() + chance.uniform(0.0, 0.4)
        wait_until(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
        _kill_session(process.pid, str(fleet.state))
        process.communicate(timeout=SECONDS)
        beacon, _ = fleet.start()
        assert is_running(beacon)
        assert servers_in(fleet.state) == [beacon]
        fleet.stop(beacon, signal.SIGKILL)
    figure(17, killed_starters=rounds)


def _kill_session(leader: int, state: str) -> None:
    """The starter, and the server that it may have begun: that is in a session of its own."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if int(entry.name) == leader or ("serve" in words and state in words):
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


# --- nodes --------------------------------------------------------------------------------


class Node:
    """A host name and node-local storage of its own, over the same files and processes."""

    def __init__(self, name: str, user: User) -> None:
        self.name = name
        own = [
            f"mkdir -p {root}/smartsim-bridge-{user.uid} && mount -t tmpfs -o "
            f"mode=0700,uid={user.uid},gid={user.gid} tmpfs {root}/smartsim-bridge-{user.uid}"
            for root in ("/tmp", "/var/tmp", "/dev/shm")
        ]
        script = " && ".join([f"hostname {name}", *own, "echo ready", "exec sleep 600"])
        self._holder = subprocess.Popen(
            ["unshare", "--uts", "--mount", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        ready = self._holder.stdout.readline()
        assert ready == "ready\n", self._holder.communicate()[1]

    @property
    def enter(self) -> str:
        """What begins a process on it."""
        return f"nsenter --target {self._holder.pid} --uts --mount"

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@pytest.mark.sshd
@pytest.mark.root
def test_alias_of_three_nodes_leads_to_the_server_of_the_node_reached(
    lonely_user: User, make_head: MakeHead, figure: Figure
) -> None:
    head = make_head(user=lonely_user)
    names = ["ssb-login1", "ssb-login2", "ssb-login3"]
    with ExitStack() as stack:
        stack.callback(stop_servers, head.state_dir)
        nodes = [Node(name, lonely_user) for name in names]
        for node in nodes:
            stack.callback(node.close)
        landed: dict[str, set[int]] = {name: set() for name in names}
        for turn in range(9):
            node = nodes[turn % 3]
            # Round robin, as a name server does it: the alias leads elsewhere each time.
            config = _leads_to(head.sshd.ssh_config, node, head.sshd.directory / "sshd_config")
            bridge = head.init(ssh_config=str(config), autostart=True)
            status = bridge.status()
            assert status.server_host == node.name
            assert bridge.run(["uname", "-n"]).stdout == f"{node.name}\n"
            landed[node.name].add(status.server_pid)
            bridge.close()
        assert [len(pids) for pids in landed.values()] == [1, 1, 1]
        beacons = servers_in(head.state_dir)
        assert sorted(beacon.host for beacon in beacons) == names
        _dead_on_one_node_is_replaced_there(beacons)
    figure(18, nodes=3, logins=9)


def _dead_on_one_node_is_replaced_there(beacons: list[Beacon]) -> None:
    """Nobody else's server is touched by it."""
    first, *others = beacons
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not pid_is_running(first.pid))
    assert all(pid_is_running(other.pid) for other in others)


def _leads_to(ssh_config: Path, node: Node, sshd_config: Path) -> Path:
    """The same alias, through an sshd that runs on the node."""
    path = ssh_config.with_name("round-robin")
    lines = ssh_config.read_text("utf-8").rstrip("\n")
    path.write_text(f"{lines}\n  ProxyCommand {node.enter} {SSHD} -i -f {sshd_config}\n", "utf-8")
    return path
