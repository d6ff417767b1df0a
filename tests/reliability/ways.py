"""A bridge whose bytes pass a proxy, over TCP or SSH; what its link went through."""

from __future__ import annotations

import time
from bisect import bisect
from dataclasses import dataclass
from pathlib import Path

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.client.listing import CommandInfo
from tests.support.flaky_proxy import FlakyProxy, proxied_state, through_proxy
from tests.support.heads import MakeHead
from tests.support.local_server import MakeLocalServer

__all__ = [
    "SECONDS",
    "TICKING",
    "Links",
    "Way",
    "direct",
    "numbers_up_to_last",
    "ticking_until",
    "tunnel",
    "way",
]

SECONDS = 120.0  # for anything, on a machine that others use
TICKING = "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo $i; sleep 0.1; done"


def ticking_until(end: Path) -> list[str]:
    """A command that counts until that file is there: nobody knows before how long a wait is."""
    script = 'i=0; until [ -e "$0" ]; do i=$((i+1)); echo $i; sleep 0.1; done'
    return ["sh", "-c", script, str(end)]


def numbers_up_to_last(said: list[str], first: int = 1) -> list[str]:
    """What a counter must have said that stopped where it did, and lost and doubled nothing."""
    return [str(number) for number in range(first, int(said[-1]) + 1)]


@dataclass
class Way:
    """A bridge, the proxy that its bytes pass, and a bridge of somebody who needs no proxy."""

    bridge: Bridge
    proxy: FlakyProxy
    onlooker: Bridge
    server_pid: int
    state_dir: Path  # the server's

    @property
    def end(self) -> Path:
        """A file that is not there, and that both a test and its command can see."""
        return self.state_dir / "end"

    def sees(self, command: str) -> CommandInfo:
        """What the server tells others of it."""
        return next(one for one in self.onlooker.commands() if one.id == command)


@pytest.fixture(params=["direct", pytest.param("tunnel", marks=pytest.mark.sshd)])
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.getfixturevalue(request.param)
    assert made.bridge.status().transport == request.param
    return made


@pytest.fixture
def direct(
    make_local_server: MakeLocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Way:
    server = make_local_server()
    proxy = _open(FlakyProxy(("127.0.0.1", server.port)), request)
    state = proxied_state(server.state_dir, proxy, tmp_path / "state")
    monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
    near, onlooker = server.init(transport="direct"), server.init(transport="local")
    return Way(near, proxy, onlooker, server.pid, server.state_dir)


@pytest.fixture
def tunnel(make_head: MakeHead, request: pytest.FixtureRequest) -> Way:
    head = make_head()
    proxy = _open(FlakyProxy((head.sshd.host, head.sshd.port)), request)
    config = str(through_proxy(head.sshd, proxy))
    near = head.init(autostart=True, ssh_config=config, transport="tunnel")
    return Way(near, proxy, head.init(), near.status().server_pid, head.state_dir)


def _open(proxy: FlakyProxy, request: pytest.FixtureRequest) -> FlakyProxy:
    # By hand: bridges must be closed before it, and their fixtures end after this one's.
    proxy.__enter__()
    request.addfinalizer(lambda: proxy.__exit__(None, None, None))
    return proxy


class Links:
    """When the link of a bridge went, and when another came."""

    def __init__(self, bridge: Bridge) -> None:
        self.lost: list[float] = []
        self.found: list[float] = []
        bridge.when_link_changes(self._tell)

    def _tell(self, is_linked: bool) -> None:
        (self.found if is_linked else self.lost).append(time.monotonic())

    def until_bytes(self, came: list[float]) -> list[float]:
        """Seconds from each loss to the first of the bytes that another link brought."""
        firsts = (bisect(came, found) for found in self.found)
        return [came[first] - lost for first, lost in zip(firsts, self.lost) if first < len(came)]
