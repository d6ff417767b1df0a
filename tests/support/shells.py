"""Shells that tests run scripts with, where they are installed."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["shell_command", "shell_path"]

# scripts/test installs the others, so that in CI they must be there.
SPARE = frozenset({"busybox", "mksh"})


def shell_path(name: str) -> str:
    """Its path; where it is missing the test is skipped, and fails where it must not be."""
    path = shutil.which(name)
    if path is None:
        must_be = bool(os.environ.get("CI")) and name not in SPARE
        (pytest.fail if must_be else pytest.skip)(f"there is no {name} here")
    return str(path)


def shell_command(line: str) -> str:
    """The same for a shell with options: its command line, with the path for the name."""
    name, *options = line.split()
    return " ".join([shell_path(name), *options])
