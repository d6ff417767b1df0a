"""A virtual environment with SmartSim 0.8.0 and this project in it, made once beside .venv.

SmartSim needs another Python than these tests may run on, and old versions of packages, so it
has an environment of its own.  What its Orchestrator starts is Debian's redis-server, in the
layout that SmartSim looks for; no file of SmartSim is edited.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["SmartSimVenv", "smartsim_venv"]

CLONE = Path(__file__).resolve().parents[2]
DIRECTORY = CLONE / ".venv-smartsim"
WANTED = ["smartsim==0.8.0", "ipykernel>=6.29", "nbclient>=0.10"]
MAKE_SECONDS = 900.0  # two minutes, of which much is pip's; five beside other tests

# SmartSim tells redis to load RedisAI, which Debian does not have.
SERVER = """\
#!/bin/bash
words=()
while (($#)); do
    if [[ $1 == --loadmodule ]]; then shift 2; else words+=("$1"); shift; fi
done
exec /usr/bin/redis-server "${words[@]}"
"""
CLIENT = '#!/bin/sh\nexec /usr/bin/redis-cli "$@"\n'


@dataclass(frozen=True)
class SmartSimVenv:
    """Where it is, for every host of the test cluster too."""

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "bin/python")

    @property
    def bridge(self) -> str:
        """The command smartsim-bridge."""
        return str(self.directory / "bin/smartsim-bridge")

    @property
    def environment(self) -> dict[str, str]:
        """What SmartSim is told: where redis is, and to ask the scheduler every second."""
        return {
            "SMARTSIM_DEP_INSTALL_PATH": str(self.directory / "redis"),
            "SMARTSIM_JM_INTERVAL": "1",
            # Two seconds each, for the accounting to know a step: ten are soon gone.
            "SMARTSIM_WLM_TRIALS": "60",
        }


@pytest.fixture(scope="session")
def smartsim_venv() -> SmartSimVenv:
    """Skips where it cannot be made; in CI that is a failure."""
    try:
        with _alone():
            _make()
    except (OSError, subprocess.SubprocessError) as failed:
        said = getattr(failed, "stderr", None) or failed
        reason = f"no environment with SmartSim 0.8.0: {said}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SmartSimVenv(DIRECTORY)


def _make() -> None:
    stamp = DIRECTORY / ".installed"
    content = f"{CLONE}\n{WANTED}\n{(CLONE / 'pyproject.toml').read_text('utf-8')}"
    if stamp.is_file() and stamp.read_text("utf-8") == content:
        return
    _run(_interpreter(), "-m", "venv", "--clear", "--without-pip", str(DIRECTORY))
    python = DIRECTORY / "bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python))
    _run(*pip, "install", "--quiet", *WANTED, "--editable", str(CLONE))
    _lay_out_redis(DIRECTORY / "redis")
    # SmartSim fails without this directory, even where it is told to look elsewhere.
    (package,) = DIRECTORY.glob("lib/python3*/site-packages/smartsim/_core")
    (package / "bin").mkdir(exist_ok=True)
    stamp.write_text(content, "utf-8")


def _lay_out_redis(place: Path) -> None:
    (place / "lib").mkdir(parents=True)
    (place / "lib/redisai.so").touch()
    (place / "bin").mkdir()
    for name, script in {"redis-server": SERVER, "redis-cli": CLIENT}.items():
        program = place / "bin" / name
        program.write_text(script, "ascii")
        program.chmod(0o755)


def _interpreter() -> str:
    """A Python that SmartSim 0.8.0 still knows."""
    for python in _pythons():
        done = subprocess.run(
            [python, "-c", "import sys, venv; print((3, 9) <= sys.version_info < (3, 12))"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout == "True\n":
            return python
    raise FileNotFoundError("it needs a Python of 3.9 to 3.11, and there is none")


def _pythons() -> Iterator[str]:
    yield sys.executable
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in ("3.11", "3.10", "3.9"):
        places = [*map(Path, os.get_exec_path()), *root.glob(f"versions/{version}.*/bin")]
        for place in places:
            if (place / f"python{version}").is_file():
                yield str(place / f"python{version}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=MAKE_SECONDS)


@contextmanager
def _alone() -> Iterator[None]:
    """One worker of the test run makes it, the others wait."""
    with (CLONE / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
