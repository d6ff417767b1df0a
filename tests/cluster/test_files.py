"""Files from a laptop that shares nothing with the cluster: up, back, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.host import Host

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
SMALL_FILES = 2000

# What every script begins with; its first argument says how to connect.
_BRIDGE = """
import hashlib, json, os, sys, time
from pathlib import Path
from smartsim_bridge import init_command_server
from smartsim_bridge.errors import *
def tell(what):
    print(json.dumps(what), flush=True)
def sums(root):
    return {
        str(one.relative_to(root)): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in Path(root).rglob("*") if one.is_file()
    }
bridge = init_command_server(**json.loads(sys.argv[1]))
"""

_THERE_AND_BACK = """
small, large = int(sys.argv[2]), int(sys.argv[3])
home = Path(sys.argv[4]).expanduser()
here = home / "here"
for number in range(small):
    file = here / f"folder {number % 20}" / f"file-{number}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(number % 4000))
with open(here / "large", "wb") as file:
    for _ in range(large):
        file.write(os.urandom(1 << 20))
def timed(move):
    began = time.monotonic()
    return move(), time.monotonic() - began
(up, first) = timed(lambda: bridge.sync(here, "data"))
(again, second) = timed(lambda: bridge.sync(here, "data"))
(down, back) = timed(lambda: bridge.get("data", home / "back"))
tell({
    "transport": bridge.status().transport,
    "up": up.files, "again": [again.files, again.up.bytes, again.up.unchanged], "down": down.files,
    "same": sums(here) == sums(home / "back"), "seconds": [first, second, back],
})
"""


def run(host: Host, code: str, *arguments: object, user: str = "alice", **keywords: Any) -> Any:
    """What the script tells last."""
    asked = json.dumps({"addr": "login1", "autostart": True, "timeout": 60.0, **keywords})
    done = host.run(
        *(sys.executable, "-c", _BRIDGE + code, asked, *map(str, arguments)),
        user=user, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("large", [8, pytest.param(1024, marks=pytest.mark.soak)])
@pytest.mark.parametrize("transport", ["tunnel", "stdio", "direct", "local"])
def test_a_folder_goes_up_and_comes_back_and_then_nothing_moves(
    cluster: Cluster, transport: str, large: int
) -> None:
    name = {"direct": "compute1", "local": "login1"}.get(transport, "laptop")
    if transport == "direct":  # a server, and the keys that it leaves in the home
        assert cluster.near("compute1", "alice").connect(addr="login1", autostart=True).status
        cluster.firewall.open()
    host, place = cluster.host(name), "/var/tmp/files-of-alice"
    told = run(host, _THERE_AND_BACK, SMALL_FILES, large, place, transport=transport)
    print(transport, large, "MiB:", told["seconds"])
    assert told["transport"] == transport
    assert (told["up"], told["down"]) == (SMALL_FILES + 1, SMALL_FILES + 1)
    assert told["again"] == [0, 0, SMALL_FILES + 1]
    assert told["same"]


_STOPS_MIDWAY = """
from threading import Event
lost = Event()
bridge.when_link_changes(lambda is_back: tell("back" if is_back else "lost"))
with open("large", "wb") as file:
    for _ in range(48):
        file.write(os.urandom(1 << 20))
stopped = []
def progress(now):
    if now.bytes > 8 << 20 and not stopped:
        stopped.append(now.bytes)
        tell("midway")
        sys.stdin.readline()
report = bridge.put("large", "received/large", progress=progress)
bridge.get("received/large", "again")
same = Path("large").read_bytes() == Path("again").read_bytes()
tell({"bytes": report.bytes, "resumed": report.resumed, "same": same,
      "reconnects": bridge.status().reconnects})
"""


@contextmanager
def stopped_midway(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """A transfer from the laptop that has moved some of a file, and waits for a line."""
    asked = json.dumps({"addr": "login1", "autostart": True, "timeout": 60.0})
    with cluster.host("laptop").popen(
        *(sys.executable, "-c", _BRIDGE + _STOPS_MIDWAY, asked),
        user="alice", stdin=subprocess.PIPE,
    ) as near:  # fmt: skip
        try:
            expect(near, "midway")
            yield near
        finally:
            near.kill()


def expect(near: subprocess.Popen[str], word: str) -> None:
    assert near.stdout is not None
    for line in near.stdout:
        if json.loads(line) == word:
            return
    raise AssertionError(f"it ended without {word!r}")


def test_a_link_that_is_cut_in_the_middle_is_not_noticed_by_the_files(cluster: Cluster) -> None:
    with stopped_midway(cluster) as near:
        assert near.stdin is not None
        assert near.stdout is not None
        cluster.firewall.cut("laptop", "login1")
        near.stdin.write("go on\n")
        near.stdin.flush()
        expect(near, "lost")
        cluster.firewall.heal()
        told = json.loads(near.stdout.readlines()[-1])
    assert told == {"bytes": 48 * MIB, "resumed": 0, "same": True, "reconnects": 1}


def test_after_a_client_that_was_killed_the_next_one_goes_on(cluster: Cluster) -> None:
    with stopped_midway(cluster) as near:
        near.kill()
    received = cluster.host("login1").path("/home/alice/received")
    assert not (received / "large").exists()

    code = 'report = bridge.put("large", "received/large"); tell([report.bytes, report.resumed])'
    fresh, resumed = run(cluster.host("laptop"), code)
    assert resumed > 0
    assert fresh + resumed == 48 * MIB
    # The far end of the one that was killed has a minute for its client to come back.
    assert [one.name for one in received.glob("[!.]*")] == ["large"]


def test_a_full_disk_is_told_and_leaves_no_half_file(cluster: Cluster) -> None:
    head = cluster.host("login1")
    head.run("mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "small-disk", "/mnt")
    try:
        told = run(
            cluster.host("laptop"),
            """
os.makedirs("many", exist_ok=True)
Path("many/first").write_bytes(os.urandom(1 << 20))
for number in range(8):
    Path(f"many/z{number}").write_bytes(os.urandom(1 << 20))
faults = []
for source in ("many", "many/../big"):
    Path("big").write_bytes(os.urandom(8 << 20))
    try:
        bridge.put(source, "/mnt/place" if source == "many" else "/mnt/big")
    except DiskFull as full:
        faults.append([full.host, full.what, full.advice])
tell(faults)
""",
        )
        assert len(told) == 2
        for host, what, advice in told:
            assert host == "login1"
            assert "No room for login1:/mnt/" in what
            assert "larger quota" in advice
        left = head.run("find", "/mnt", "-type", "f", "-size", "-1024k").stdout.split()
        assert left == []
        sizes = head.run("find", "/mnt", "-type", "f", "-printf", "%s\n").stdout.split()
        assert set(sizes) <= {str(MIB)}
    finally:
        head.run("umount", "/mnt")


def test_what_may_not_be_read_or_written_is_named_and_the_others_go_on(cluster: Cluster) -> None:
    laptop, head = cluster.host("laptop"), cluster.host("login1")
    folder = laptop.path("/home/alice/mixed")
    laptop.run("mkdir", "-p", "/home/alice/mixed", user="alice")
    laptop.run("sh", "-c", "echo open > /home/alice/mixed/open", user="alice")
    laptop.run("sh", "-c", "umask 077; echo secret > /home/alice/mixed/closed")
    assert (folder / "closed").stat().st_mode & 0o777 == 0o600
    told = run(
        laptop,
        """
try:
    bridge.put("mixed", "mixed")
except TransferIncomplete as incomplete:
    failed = [[one.path, one.reason] for one in incomplete.report.failed]
try:
    bridge.put("mixed/open", "/etc/open")
except (TransferIncomplete, PermissionError) as refused:
    tell([failed, str(refused)])
""",
    )
    assert told[0] == [["closed", "Permission denied"]]
    assert "Permission denied" in told[1]
    assert head.path("/home/alice/mixed/open").read_text() == "open\n"


def test_the_command_line_moves_and_says_what_it_did(cluster: Cluster) -> None:
    near = cluster.near("laptop", "alice")
    near.host.run("sh", "-c", "mkdir -p out; echo one > out/a; mkfifo out/pipe", user="alice")
    put = near.cli("put", "--addr", "login1", "out", "in/")
    assert (put.returncode, put.stdout) == (0, "1 files, 4 bytes: /home/alice/in/out\n")
    assert "skipped: 'pipe': a named pipe cannot be moved" in put.stderr
    sync = near.cli("sync", "--addr", "login1", "--direction", "both", "--delete", "out", "in/out")
    assert sync.returncode == 0, sync.stderr
    get = near.cli("get", "--addr", "login1", "in/out/a", "got")
    assert get.returncode == 0
    assert near.host.path("/home/alice/got").read_text() == "one\n"
    missing = near.cli("get", "--addr", "login1", "nowhere", "got")
    assert missing.returncode == 1
    assert "login1:/home/alice/nowhere: No such file or directory" in missing.stderr
