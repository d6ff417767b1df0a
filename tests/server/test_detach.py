"""Each in a process of its own: forking is no business of a test run's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until


def detached(body: str, tmp_path: Path, mask: int = 0o022) -> subprocess.CompletedProcess[str]:
    """Runs `detached(serve)`, where `body` is what `serve(say)` does."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    script = f"""
import os, sys
from smartsim_bridge.server.detach import detached
os.umask({mask})
def serve(say):
{lines}
sys.exit(detached(serve))
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ready_line_goes_to_stdout_and_the_process_lives_on(tmp_path: Path) -> None:
    done = detached("say(f'+ready {os.getpid()}\\n')\nimport signal\nsignal.pause()", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    word, pid = done.stdout.split()
    assert word == "ready"
    try:
        # run() has seen the end of both pipes: the process let go of them.
        assert os.getsid(int(pid)) not in (os.getsid(0), int(pid))
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        for descriptor in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == os.devnull
        assert len(os.listdir(f"/proc/{pid}/fd")) == 3
        # orphaned: nobody of ours waits for it
        wait_until(lambda: f"\nPPid:\t{os.getpid()}\n" not in status_of(pid))
    finally:
        os.kill(int(pid), signal.SIGKILL)


def status_of(pid: str) -> str:
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii")


def test_reason_goes_to_stderr_with_status_1(tmp_path: Path) -> None:
    done = detached("say('-the port is taken\\n')\nreturn 1", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the port is taken\n")


def test_silence_is_told_as_such(tmp_path: Path) -> None:
    done = detached("return 0", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no word" in done.stderr


def test_sudden_end_is_told(tmp_path: Path) -> None:
    done = detached("os.kill(os.getpid(), 9)", tmp_path)
    assert done.returncode == 1
    assert "no word" in done.stderr


def test_unforeseen_failure_is_told(tmp_path: Path) -> None:
    done = detached("raise RuntimeError('what now')", tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: what now" in done.stderr


def test_second_word_is_dropped(tmp_path: Path) -> None:
    body = f"""
say('+ready\\n')
mine = os.open('{tmp_path}/file', os.O_RDWR | os.O_CREAT)
say('-too late\\n')
os.close(mine)
"""
    done = detached(body, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
    assert (tmp_path / "file").read_text() == ""


def test_launcher_that_is_gone_does_not_end_it(tmp_path: Path) -> None:
    body = f"""
os.kill(int(open('{tmp_path}/launcher').read()), 9)
while os.path.exists(f'/proc/{{open("{tmp_path}/launcher").read()}}/fd/0'): pass
say('+ready\\n')
open('{tmp_path}/served', 'w').close()
"""
    prefix = f"open('{tmp_path}/launcher', 'w').write(str(os.getpid()))\n"
    script = (
        "import os, sys\nfrom smartsim_bridge.server.detach import detached\n"
        + prefix
        + "def serve(say):\n"
        + "".join(f"    {line}\n" for line in body.strip().splitlines())
        + "sys.exit(detached(serve))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until((tmp_path / "served").exists)


def test_umask_stays_the_users_own(tmp_path: Path) -> None:
    done = detached("say('+%o\\n' % os.umask(0))", tmp_path, mask=0o027)
    assert done.stdout == "27\n"
