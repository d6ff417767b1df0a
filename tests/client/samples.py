"""Beacons and credentials for tests that need no server."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from smartsim_bridge.protocol.beacon import Beacon, Credentials

__all__ = ["beacon", "credentials"]

_BEACON = Beacon(
    host="login1",
    boot_id="b" * 36,
    uid=os.getuid(),
    pid=4711,
    pid_start=12345,
    version="0.1.0",
    protocol=1,
    socket="/tmp/smartsim-bridge-1000/0.sock",
    endpoints=("tcp://127.0.0.1:41234",),
    server_key="s" * 40,
)


def beacon(**changes: Any) -> Beacon:
    return replace(_BEACON, **changes)


def credentials() -> Credentials:
    return Credentials("s" * 40, "c" * 40, "x" * 40)
