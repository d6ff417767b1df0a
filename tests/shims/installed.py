"""A head on this host with a scheduler of its own, and shims of it that are installed for good."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from smartsim_bridge.agent.installation import Installation
from smartsim_bridge.agent.place import State
from tests.support.command_line import typed

__all__ = ["Installed"]

SECONDS = 60.0

# Says what it was given; `wait` until the test has made a file.
SQUEUE = """#!/bin/sh
echo "head: $*"
[ "$1" != wait ] || { : > "$2.began"; while [ ! -e "$2" ]; do sleep 0.05; done; echo waited; }
[ "$1" != fail ] || exit 7
"""


class Installed:
    """Made by `smartsim-bridge shims install`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        return self.cli("install", *options)

    def cli(self, action: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        return typed("shims", action, "--dir", str(self.folder), *options)

    def words(self, *arguments: str) -> list[str]:
        return [str(self.folder / "squeue"), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Where no real command is on PATH, and no session."""
        return {**os.environ, "PATH": str(self.folder), **more}

    def call(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*arguments),
            env=env or self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            start_new_session=True,  # without a terminal
        )

    def agent(self) -> State | None:
        return Installation.read(self.folder).place.state()

    def clean(self) -> None:
        """No agent outlives its test, nor anything of it."""
        if (self.folder / ".agent.json").exists():
            Installation.read(self.folder).remove()
