"""The spool against real limits, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROLOGUE = """
import hashlib, json, os, resource, signal, sys
from smartsim_bridge.server import spool as module
from smartsim_bridge.server.spool import Spool
MIB = 1024 * 1024
spool = Spool(sys.argv[1])
kept = spool.keep("abc", 1)

def piece(number):
    return hashlib.sha256(b"%d" % number).digest() * 2048  # 64 KiB

def digest():
    found, offset = hashlib.sha256(), kept.base
    while offset < kept.end:
        data = kept.read(offset, 256 * 1024)
        found.update(data)
        offset += len(data)
    return found.hexdigest()
"""

FULL_DISK = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB + 12345, before[1]))
said = hashlib.sha256()
for number in range(80):
    kept.append(piece(number))
    said.update(piece(number))
told = {"room": kept.room, "why": kept.why_full, "whole": digest() == said.hexdigest(),
        "memory": spool.in_memory, "disk": spool.on_disk, "end": kept.end,
        "sizes": [os.stat(os.path.join(sys.argv[1], n)).st_size for n in os.listdir(sys.argv[1])]}
resource.setrlimit(resource.RLIMIT_FSIZE, before)
module.RETRY_SECONDS = 0.0
spool._retry_at = 0.0
told["room_again"] = kept.room
told["why_again"] = kept.why_full
told["memory_again"] = spool.in_memory
told["whole_again"] = digest() == said.hexdigest()
kept.close()
told["left"] = os.listdir(sys.argv[1])
print(json.dumps(told))
"""

FLOOD = """
said = hashlib.sha256()
kept.append(piece(0))
said.update(piece(0))
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(1, 1600):  # 100 MiB
    data = piece(number)
    kept.append(data)
    said.update(data)
whole = digest() == said.hexdigest()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
held = kept.end - kept.base
kept.close()
print(json.dumps({"whole": whole, "grown_kib": grown, "held": held,
                  "left": os.listdir(sys.argv[1])}))
"""


def run(script: str, directory: Path) -> tuple[dict[str, Any], str]:
    """What it told, and what it logged."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + script, str(directory)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_full_disk_keeps_all_in_memory_until_there_is_room_again(tmp_path: Path) -> None:
    told, log = run(FULL_DISK, tmp_path / "spool")
    assert (told["room"], told["why"]) == (0, "the disk is full: File too large")
    assert log.count("Cannot spool output") == 1
    assert told["whole"]
    assert told["memory"] + told["disk"] == told["end"]
    assert told["disk"] > 0
    assert sum(told["sizes"]) == told["disk"]  # what was torn is cut off again
    assert (told["room_again"] > 0, told["why_again"]) == (True, "")
    assert told["memory_again"] == 0
    assert told["whole_again"]
    assert told["left"] == []


def test_flood_of_100_mib_is_kept_in_bounded_memory(tmp_path: Path) -> None:
    told, log = run(FLOOD, tmp_path / "spool")
    assert log == ""
    assert told["held"] == 1600 * 64 * 1024
    assert told["whole"]
    assert told["grown_kib"] < 16 * 1024
    assert told["left"] == []
