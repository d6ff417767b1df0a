"""Where it was measured: enough to compare with, nothing to recognise the machine by."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe_load", "describe_machine"]

PACKAGES = (
    "smartsim-bridge",
    "pyzmq",
    "paramiko",
    "sshtunnel",
    "execnet",
    "mitogen",
    "rpyc",
    "asyncssh",
    "fabric",
)


def describe_machine() -> dict[str, str]:
    """Hardware, system and versions, in the order of the report."""
    return {
        "cores": f"{os.cpu_count()} ({_processor()})",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "OpenSSH": _openssh(),
        "libzmq": _libzmq(),
        **{name: _version(name) for name in PACKAGES},
    }


def describe_load() -> str:
    """The load average of the last minute, of all who use the machine."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _openssh() -> str:
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False, timeout=10)
    return done.stderr.strip().partition(",")[0].replace("OpenSSH_", "")


def _libzmq() -> str:
    import zmq

    return zmq.zmq_version()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
