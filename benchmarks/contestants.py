"""Who takes part, and how those who can are made ready."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from .head import BenchHead
from .libraries import AsyncSsh, Execnet, Fabric, Mitogen, ParamikoExec, Rpyc
from .peers import ControlMaster, FreshSsh, Here, Peer, Rung

__all__ = ["all_peers", "open_peers"]

RUNGS = ("local", "direct", "tunnel", "stdio")
WARM_UPS = 3  # the first calls load modules, there and here


def all_peers() -> list[Peer]:
    """One of each."""
    rungs = [Rung(name) for name in RUNGS]
    libraries = [Execnet(), Mitogen(), Rpyc(), AsyncSsh(), ParamikoExec(), Fabric()]
    return [Here(), *rungs, *libraries, ControlMaster(), FreshSsh()]


def open_peers(
    peers: Sequence[Peer], head: BenchHead, stack: ExitStack
) -> tuple[list[Peer], dict[str, str]]:
    """Those that are ready, until the stack closes them, and why each other one is missing."""
    ready, missing = [], {}
    for peer in peers:
        fault = peer.why_missing() or _open(peer, head, stack)
        if fault:
            missing[peer.name] = fault
        else:
            ready.append(peer)
    return ready, missing


def _open(peer: Peer, head: BenchHead, stack: ExitStack) -> str:
    try:
        peer.open(head)
        stack.callback(peer.close)
        for _ in range(1 if peer.is_fresh else WARM_UPS):
            peer.call()
    except Exception as fault:  # noqa: BLE001 - reported as missing, with its words
        return f"{type(fault).__name__}: {fault}"
    return ""
