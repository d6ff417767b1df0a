"""The functions that the scripts share, where they decide something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def bash(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; . scripts/venv.sh; {script}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def executable(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return path


def test_named_python_is_taken() -> None:
    assert bash("find_python", PYTHON=sys.executable).stdout == f"{sys.executable}\n"


def test_named_python_that_is_too_old_is_refused_in_words(tmp_path: Path) -> None:
    old = executable(tmp_path / "python3", "exit 1")
    refused = bash("find_python", PYTHON=str(old))
    assert refused.returncode == 1
    assert refused.stderr == f"PYTHON={old} is not a Python of 3.9 or newer.\n"


def test_python_on_path_that_cannot_make_venvs_is_second_choice(tmp_path: Path) -> None:
    # Debian's own python3, with a complete one further down PATH.
    bare = executable(tmp_path / "bare" / "python3", 'case "$2" in *venv*) exit 1; esac')
    full = executable(tmp_path / "full" / "python3", "exit 0")
    path = f"{bare.parent}:{full.parent}:{os.defpath}"
    assert bash("find_python", PATH=path).stdout == f"{full}\n"


def test_noise_of_a_good_command_is_dropped_and_of_a_failing_one_kept() -> None:
    assert bash("quietly sh -c 'echo noise'").stderr == ""
    failed = bash("quietly sh -c 'echo reason; exit 7'")
    assert (failed.returncode, failed.stderr) == (7, "reason\n")


def test_venv_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / ".installed[test]").write_text(str(ROOT))
    done = bash(f"make_venv {tmp_path} '.[test]'", PYTHON="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")


def test_tools_of_the_active_venv_come_first(tmp_path: Path) -> None:
    tool = executable(tmp_path / "bin" / "ruff", "exit 0")
    done = bash("use_first_with ruff; command -v ruff", VIRTUAL_ENV=str(tmp_path))
    assert done.stdout == f"{tool}\n"
