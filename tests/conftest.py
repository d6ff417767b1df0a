"""Fixtures for all tests live in tests/support; this file only makes them known."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.chance",
    "tests.support.fixtures",
    "tests.support.heads",
    "tests.support.local_server",
    "tests.support.openssh",
    "tests.support.python39",
    "tests.support.shim_reception",
    "tests.support.smartsim_venv",
    "tests.support.second_try",
    "tests.support.soak",
    "tests.support.wheels",
]
