"""The server started by hand, from a clone that nobody installed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "start_cmd_server.py"


@contextmanager
def started(state: Path, *words: str, bare: bool = False) -> Iterator[subprocess.Popen[str]]:
    """`bare`: without site-packages, so without pyzmq and without an installed package."""
    # Another directory than the clone's root, which Python would look into by itself.
    with subprocess.Popen(
        [sys.executable, *(["-S"] if bare else []), str(SCRIPT), "--state-dir", str(state), *words],
        cwd=state,
        env={"PATH": os.defpath, "HOME": str(state), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if word in line:
            return lines
    raise AssertionError(f"{word!r} was not said: {lines} {process.communicate()[1]}")


def test_server_runs_in_the_foreground_until_sigterm(tmp_path: Path) -> None:
    with started(tmp_path, "--port", "0") as server:
        lines = lines_until(server, "stop it with")
        assert any("tcp://127.0.0.1:" in line for line in lines)
        assert any("init_command_server(" in line for line in lines)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_server_needs_nothing_but_python(tmp_path: Path) -> None:
    with started(tmp_path, "--port", "0", bare=True) as server:
        lines = lines_until(server, ".sock")
        assert str(server.pid) in lines[0]
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.parametrize("words", [(), ("--port", "5556")])
def test_port_without_pyzmq_is_an_error_in_words(tmp_path: Path, words: tuple[str, ...]) -> None:
    with started(tmp_path, *words, bare=True) as server:
        out, said = server.communicate(timeout=60)
    assert (server.returncode, out) == (1, "")
    assert f"Port {words[-1] if words else 5555} cannot be served: No module named 'zmq'" in said
    assert "Install pyzmq for this Python, or leave the port out (--port 0)" in said
    assert "Traceback" not in said


def test_taken_port_is_an_error_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with started(tmp_path, "--port", port) as server:
            _, said = server.communicate(timeout=60)
    assert server.returncode == 1
    assert port in said
    assert "Traceback" not in said


def test_second_server_of_one_user_is_an_error_in_words(tmp_path: Path) -> None:
    with started(tmp_path, "--port", "0") as first:
        lines_until(first, "stop it with")
        with started(tmp_path, "--port", "0") as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert str(first.pid) in said
        assert "Traceback" not in said
        first.send_signal(signal.SIGTERM)
        first.wait(60)


def test_help_names_the_well_known_port(tmp_path: Path) -> None:
    with started(tmp_path, "--help") as helped:
        said, _ = helped.communicate(timeout=60)
    assert helped.returncode == 0
    assert "default 5555" in said
