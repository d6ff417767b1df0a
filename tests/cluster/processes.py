"""Ends what accounts of the cluster run, and nothing else of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from pathlib import Path

from .accounts import ACCOUNTS

__all__ = ["kill_account_processes"]

UIDS = {str(account.uid) for account in ACCOUNTS.values()}


def kill_account_processes(networks: Set[str]) -> None:
    """Kills every process of an account in one of those network namespaces."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            _kill_if_ours(int(process.name), networks)


def _kill_if_ours(pid: int, networks: Set[str]) -> None:
    try:
        handle = os.pidfd_open(pid)  # so that the number cannot change hands in between
    except OSError:
        return  # it ended just now
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
        uid = status.partition("\nUid:")[2].split(None, 1)[0]
        if uid in UIDS and os.readlink(f"/proc/{pid}/ns/net") in networks:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass  # the same
    finally:
        os.close(handle)
