"""What runs on the far side for mitogen and execnet: the same call that the bridge's server does.

mitogen sends this module's source and execnet the text below, so it imports nothing but the
standard library.
"""

from __future__ import annotations

import subprocess

__all__ = ["EXECNET_LOOP", "run_there"]


def run_there(argv: list[str]) -> tuple[int, str, str]:
    """Status and both streams; plain values, as mitogen sends no others."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# A loop behind one channel costs execnet less than a remote_exec for each call.
EXECNET_LOOP = """
import subprocess
for argv in channel:
    done = subprocess.run(argv, capture_output=True, text=True)
    channel.send((done.returncode, done.stdout, done.stderr))
"""
