"""What a program leaves behind that ends without closing its bridge."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.heads import Head, MakeHead

HANG_SECONDS = 120.0

PROGRAM = """
import sys
from smartsim_bridge import init_command_server
addr, ssh_config, python, transport = sys.argv[1:]
bridge = init_command_server(
    addr, ssh_config=ssh_config, python=python, transport=transport, autostart=True
)
print(bridge.run(["echo", "served"]).stdout, end="")
"""

# Looks at the bridge when what paramiko registered for the end of the program has run, which it
# did as it was imported: later than this.
LOOKING = PROGRAM.replace(
    "bridge = ", "import atexit\natexit.register(lambda: print(bridge))\nbridge = ", 1
)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Short, so that sockets fit into it."""
    with tempfile.TemporaryDirectory(prefix="ssb-") as path:
        yield Path(path)


def run_program(
    head: Head, transport: str, temporary: Path, program: str = PROGRAM
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    environment.pop("XDG_RUNTIME_DIR", None)
    words = ["head", str(head.sshd.ssh_config), head.python, transport]
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANG_SECONDS,
        check=False,
    )


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_a_program_that_ends_unclosed_leaves_nothing_here(
    transport: str, make_head: MakeHead, temporary: Path
) -> None:
    done = run_program(make_head(), transport, temporary)
    assert (done.returncode, done.stdout, done.stderr) == (0, "served\n", "")
    assert list(temporary.iterdir()) == []


@pytest.mark.sshd
@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_the_goodbye_is_said_while_there_is_a_connection(
    transport: str, make_head: MakeHead, temporary: Path
) -> None:
    done = run_program(make_head(), transport, temporary, LOOKING)
    assert (done.returncode, done.stdout) == (0, "served\n<Bridge closed>\n")
    assert done.stderr == ""
