"""The far half on its own: one file, a bare CPython, no site-packages, no package around it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from smartsim_bridge import __version__
from smartsim_bridge.bootstrap.artifact import build, far_half
from tests.bootstrap.samples import modern_pythons


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "far.pyz"
    path.write_bytes(build().content)
    return path


def run(python: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-S", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("python", modern_pythons())
def test_the_payload_runs_alone(python: str, payload: Path, tmp_path: Path) -> None:
    done = run(python, str(payload), "--version", cwd=tmp_path)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")


@pytest.mark.parametrize("python", modern_pythons())
def test_every_module_of_it_can_be_imported_alone(
    python: str, payload: Path, tmp_path: Path
) -> None:
    """Only the zmq rooms may fail, and only for want of zmq."""
    names = [name[: -len(".py")].replace("/", ".") for name, _ in far_half()]
    script = f"""
import importlib, sys
sys.path.insert(0, {str(payload)!r})
for name in {names!r}:
    try:
        importlib.import_module(name.removesuffix(".__init__"))
    except ModuleNotFoundError as missing:
        print(name, missing.name)
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None) or ""
    if "site-packages" in path:
        print("from outside:", path)
"""
    done = run(python, "-W", "error", "-c", script, cwd=tmp_path)

    assert done.stderr == ""
    rooms = ("zmq_link", "zmq_listener", "zmq_socket")
    without = "".join(f"smartsim_bridge.links.{room} zmq\n" for room in rooms)
    assert done.stdout in ("", without)
