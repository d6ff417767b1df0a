"""The second try that CI grants: of what, how often, and that it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

SERVER = """
import pathlib, pytest
@pytest.mark.sshd
@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    first = pathlib.Path(f"tried-{{number}}")
    if {always} or not first.exists():
        first.touch()
        raise AssertionError("only now and then")
"""


def run(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(text, "ascii")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = sshd\n", "ascii")
    plugin = ("-p", "tests.support.second_try", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_failure_against_a_server_is_told_and_tried_again(tmp_path: Path) -> None:
    done = run(tmp_path, SERVER.format(count=3, always=False), "--second-try")
    assert done.returncode == 0, done.stdout
    assert "3 passed, 3 rerun" in done.stdout
    assert "RERUN test_it.py::test_it[0]" in done.stdout
    assert done.stdout.count("AssertionError: only now and then") == 3


def test_more_than_a_few_fail_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, SERVER.format(count=4, always=False), "--second-try")
    assert done.returncode == 1, done.stdout
    assert "4 second tries, and 3 there may be" in done.stdout


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    done = run(tmp_path, SERVER.format(count=1, always=True), "--second-try")
    assert done.returncode == 1
    assert "1 failed, 1 rerun" in done.stdout


def test_what_needs_no_server_and_whatever_runs_elsewhere_has_one_try(tmp_path: Path) -> None:
    text = SERVER.format(count=1, always=False)
    for name, said, options in (
        ("unmarked", text.replace("@pytest.mark.sshd\n", ""), ["--second-try"]),
        ("elsewhere", text, []),
    ):
        (tmp_path / name).mkdir()
        done = run(tmp_path / name, said, *options)
        assert done.returncode == 1
        assert "1 failed" in done.stdout
        assert "rerun" not in done.stdout
