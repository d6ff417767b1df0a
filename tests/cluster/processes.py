"""Ends what accounts of the cluster run, and nothing else of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.support.waiting import wait_until

from .accounts import ACCOUNTS

__all__ = ["kill_account_processes"]

UIDS = {str(account.uid) for account in ACCOUNTS.values()}


def kill_account_processes(hosts: Mapping[str, int]) -> None:
    """Kills the accounts' processes and logins, and sees them gone.

    `hosts`: the name of each network namespace, and the number of its first process.  One look is
    not enough: what was being forked meanwhile is not in it, and what was killed may still be
    writing to a home that is about to be made anew.
    """
    wait_until(lambda: not _kill_what_is_there(hosts))


def _kill_what_is_there(hosts: Mapping[str, int]) -> int:
    """How many there were."""
    pids = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit()]
    return sum(_kill_if_theirs(pid, hosts) for pid in pids)


def _kill_if_theirs(pid: int, hosts: Mapping[str, int]) -> bool:
    """Whether it is theirs, and not yet gone."""
    try:
        handle = os.pidfd_open(pid)  # so that the number cannot change hands in between
    except OSError:
        return False  # it ended just now
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
        status = dict(line.split(":", 1) for line in lines)
        name, uid = status["Name"].strip(), status["Uid"].split()[0]
        if uid not in UIDS and name != "sshd":
            return False
        init = hosts.get(os.readlink(f"/proc/{pid}/ns/net"))
        is_daemon = uid == "0" and int(status["PPid"]) == init
        if init is None or is_daemon:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False  # the same: a zombie has no network any more, and nothing open
    finally:
        os.close(handle)
