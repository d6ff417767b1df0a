"""paramiko comes without what it need not load, and nobody sees a difference."""

from __future__ import annotations

import subprocess
import sys

LEFT_OUT = {"invoke", "importlib.metadata", "unittest", "email"}


def told(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_paramiko_is_loaded_without_what_it_need_not() -> None:
    script = "import sys, smartsim_bridge.ssh.connection, smartsim_bridge.ssh.tunnel\n"
    loaded = told(f"{script}print(*sys.modules)").split()
    assert "paramiko" in loaded
    assert not LEFT_OUT & set(loaded)


def test_its_version_is_the_one_that_was_installed() -> None:
    known = "from smartsim_bridge.ssh.library import paramiko as p\nversion = p.__version__\n"
    told(f"{known}from importlib.metadata import version as v\nassert version == v('paramiko')")


def test_a_version_that_no_directory_tells_is_asked_of_python() -> None:
    versions = "from smartsim_bridge.ssh.library import _Versions\n"
    script = f"{versions}_Versions('importlib.metadata').version('no-such-project')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "PackageNotFoundError" in done.stderr


def test_what_waits_is_loaded_once_it_is_used() -> None:
    script = """
from smartsim_bridge.ssh.library import paramiko
from paramiko.config import SSHConfig, invoke as ours
found = SSHConfig.from_text("Match exec true\\n  User somebody").lookup("head")
assert found["user"] == "somebody", found
import importlib.metadata, invoke
assert ours.run is invoke.run
assert importlib.metadata.files
"""
    told(script)


def test_who_has_loaded_it_before_keeps_it() -> None:
    told(
        "import invoke, paramiko\nfrom smartsim_bridge.ssh.library import paramiko as ours\n"
        "assert ours is paramiko and paramiko.config.invoke is invoke"
    )
