"""Many shims at a process that may open few files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from smartsim_bridge.shims import wire
from tests.shims.conftest import Session

SECONDS = 90.0
SHIMS = 100

# Few enough files for a crowd to need more; it opens one itself all the while.
HOLDER = """
import os, resource, select, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from smartsim_bridge import init_command_server
with init_command_server(transport="local", timeout=60):
    print(os.environ["SMARTSIM_BRIDGE_SOCKET"], os.environ["PATH"], flush=True)
    while not select.select([0], [], [], 0.01)[0]:
        open("/dev/null").close()
"""


def test_a_crowd_waits_at_the_door_and_leaves_the_process_its_files(session: Session) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        path, search_path = holder.stdout.readline().split()
        environment = {**os.environ, wire.SOCKET_VARIABLE: path, "PATH": search_path}
        script = ["srun", "sh", "-c", "read line; echo done"]
        crowd = [
            subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(SHIMS)
        ]
        late = threading.Timer(SECONDS, holder.kill)
        late.start()
        try:
            # Those inside wait for a line, until there is no room for one more.
            assert "ulimit" in holder.stderr.readline()
            late.cancel()
            # All at once: who came first need not have been let in first.
            with ThreadPoolExecutor(SHIMS) as pool:
                said = list(pool.map(lambda shim: shim.communicate(timeout=SECONDS)[0], crowd))
            complaints = holder.communicate(timeout=SECONDS)[1]
        finally:
            late.cancel()
            holder.kill()
            for shim in crowd:
                shim.kill()
    assert said == [b"done\n"] * SHIMS
    assert holder.returncode == 0, complaints
    assert complaints.count("\n") < 5
