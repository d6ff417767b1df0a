"""The same magics in IPython in a terminal, where there is no HTML and Ctrl-C is the button."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

IPYTHON = (sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner")
RUN_SECONDS = 100.0


@contextmanager
def ipython(
    lines: Sequence[str], place: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """It runs the lines as a script; ended with the block."""
    script = place / "script.ipy"
    script.write_text("\n".join(["%load_ext smartsim_bridge", *lines]))
    with subprocess.Popen(
        [*IPYTHON, str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def test_lines_and_status_are_text(near_side: dict[str, str], tmp_path: Path) -> None:
    lines = [
        "%bridge --transport local",
        "%head echo from the head",
        "bridge = %bridge --transport local",
        "print(bridge.commands())",
        "%head exit 3",
    ]
    with ipython(lines, tmp_path, near_side) as running:
        out, err = running.communicate(timeout=RUN_SECONDS)
    assert "from the head\n" in out
    assert "echo from the head" in out.split("COMMAND\n")[1]
    # On a busy host there may be more: a link that was lost for a moment is made again.
    step, *_, end = (line for line in err.splitlines() if line.startswith("✓ "))
    assert step.split()[:2] == ["✓", "handshake"]
    assert end.startswith("✓ Connected to ")
    assert "CalledProcessError: Command '%head exit 3' returned non-zero" in out + err
    assert "magics.py" not in out + err  # the way it took through our rooms


def test_a_failure_is_told_with_its_advice(near_side: dict[str, str], tmp_path: Path) -> None:
    lines = ["%bridge nowhere.invalid --transport tunnel"]
    with ipython(lines, tmp_path, near_side) as running:
        out, err = running.communicate(timeout=RUN_SECONDS)
    assert "✗ resolve" in err
    assert "✗ Not connected to nowhere.invalid" in err
    assert "Check the spelling" in out + err


def test_ctrl_c_ends_the_command(near_side: dict[str, str], tmp_path: Path) -> None:
    told = tmp_path / "told"
    trap = f"trap 'echo INT >{told}; exit 0' INT"
    wait = "for i in $(seq 300); do sleep .1; done"
    lines = ["%bridge --transport local", f"%head {trap}; echo begun; {wait}"]
    with ipython(lines, tmp_path, near_side) as running:
        assert running.stdout is not None
        assert any("begun" in line for line in iter(running.stdout.readline, ""))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=RUN_SECONDS)
    assert told.read_text() == "INT\n"
    assert "KeyboardInterrupt" in out + err
