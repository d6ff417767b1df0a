"""What was asked for runs once, whichever server dies and at whichever byte a link breaks."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import Bridge, init_command_server
from smartsim_bridge.errors import CommandLost, LinkLost
from tests.support.amounts import Amount
from tests.support.figures import Figure
from tests.support.flaky_proxy import (
    TO_CLIENT,
    TO_SERVER,
    FlakyProxy,
    proxied_state,
    through_proxy,
)
from tests.support.heads import MakeHead, is_running, processes_with, servers_in, stop_servers
from tests.support.local_server import LocalServer, MakeLocalServer
from tests.support.waiting import wait_until

SECONDS = 60.0
STORED_LINES = 2000  # 9 kB: below what a journal keeps of a command's output
SHORTEST_EXCHANGE = 200  # bytes, of the request or of its answer

COUNT = 'echo x >> "$0"; echo "$1"'
COUNT_AND_KILL = 'echo x >> "$0"; [ "$PPID" -gt 1 ] && kill -9 "$PPID"'


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """A line for each run; any user may write it."""
    path = tmp_path / "counter"
    path.touch()
    return path


def _runs(counter: Path) -> int:
    return len(counter.read_text().splitlines())


# --- servers that die ---------------------------------------------------------------------


@pytest.fixture
def state_dir(make_local_server: MakeLocalServer) -> Iterator[Path]:
    """Named in the environment; what autostart starts there ends with the test."""
    directory = Path(os.environ["SMARTSIM_BRIDGE_STATE_DIR"])
    yield directory
    stop_servers(directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep", "usual", "long"),
    [(False, 12, 50), (True, 6, 20)],
    ids=["for its client", "a submission"],
)
def test_server_killed_by_its_command_again_and_again_runs_none_twice(
    keep: bool,
    usual: int,
    long: int,
    state_dir: Path,
    counter: Path,
    amount: Amount,
    figure: Figure,
) -> None:
    kills = amount(usual, soak=long)
    took: list[float] = []
    pids: list[int] = []
    with init_command_server(autostart=True) as bridge:
        for number in range(1, kills + 1):
            pids.append(bridge.status().server_pid)
            began = time.monotonic()
            with pytest.raises(CommandLost) as lost:
                bridge.run(["sh", "-c", COUNT_AND_KILL, str(counter)], keep=keep)
            took.append(time.monotonic() - began)
            assert "unknown" in str(lost.value) or "cannot be known" in str(lost.value)
            assert _runs(counter) == number
            assert not is_running(pids[-1])
        assert len(set(pids)) == kills
        assert bridge.run(["echo", "still here"]).stdout == "still here\n"
        told = [one for one in bridge.commands() if str(counter) in one.argv]
        assert [one.state for one in told] == ["unknown"] * kills
        (beacon,) = servers_in(state_dir)
        assert processes_with("serve", str(state_dir)) == [beacon.pid]
    assert _runs(counter) == kills
    assert max(took) < SECONDS
    figure(12, kills=kills, run_twice=0, slowest_told_seconds=max(took))


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 7])
def test_answer_that_a_killed_server_could_not_give_is_given_by_the_next(
    status: int, proxied: Proxied, tmp_path: Path, counter: Path
) -> None:
    script = f"seq {STORED_LINES}; echo e >&2; exit {status}"
    done = _ended_unheard(script, proxied, tmp_path / "go", counter)()
    told = "".join(f"{number}\n" for number in range(1, STORED_LINES + 1))
    assert (done.returncode, done.stdout, done.stderr) == (status, told, "e\n")
    assert _runs(counter) == 1


@pytest.mark.slow
def test_answer_too_long_to_be_stored_is_lost_with_its_server_and_not_made_again(
    proxied: Proxied, tmp_path: Path, counter: Path
) -> None:
    answer = _ended_unheard("seq 100000", proxied, tmp_path / "go", counter)
    with pytest.raises(CommandLost, match="ended with exit status 0"):
        answer()
    assert _runs(counter) == 1


def _ended_unheard(
    script: str, proxied: Proxied, go: Path, counter: Path
) -> Callable[[], subprocess.CompletedProcess[str]]:
    """A script that counts and ends, whose server is killed while its client hears nothing."""
    waiting = f'while [ ! -e "$0" ]; do sleep 0.05; done; echo x >> "$1"; {script}'
    with _thread_of(proxied.bridge) as pool:
        words = ["sh", "-c", waiting, str(go), str(counter)]
        calling = pool.submit(proxied.bridge.run, words)
        wait_until(lambda: _states(proxied.onlooker) == ["running"], SECONDS)
        proxied.proxy.stall()
        go.touch()
        wait_until(lambda: _states(proxied.onlooker) == ["ended"], SECONDS)
        assert not calling.done()
        proxied.kill_and_follow()
        assert wait([calling], SECONDS).done
    return calling.result


@contextmanager
def _thread_of(bridge: Bridge) -> Iterator[ThreadPoolExecutor]:
    """A thread for calls of the bridge; with its block it ends even where the test has failed."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool
        except BaseException:
            bridge.close()  # else the pool would wait for a call that nothing ends any more
            raise


@pytest.mark.slow
def test_a_failed_wait_is_told_though_the_call_beside_it_has_not_come_back(
    proxied: Proxied,
) -> None:
    calling: Future[Any]

    def fail() -> None:
        nonlocal calling
        with _thread_of(proxied.bridge) as pool:
            calling = pool.submit(proxied.bridge.run, ["sleep", "600"])
            wait_until(lambda: _states(proxied.onlooker) == ["running"], SECONDS)
            proxied.proxy.stall()
            raise RuntimeError("a wait that failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    with pytest.raises(LinkLost):
        calling.result(0)


# --- links that break ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True], ids=["for its client", "a submission"])
@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT])
def test_request_is_done_once_at_whichever_byte_its_link_breaks(
    direction: str,
    keep: bool,
    proxied: Proxied,
    counter: Path,
    amount: Amount,
    figure: Figure,
) -> None:
    # But for a few, a submission's bytes are those of any request: they share the places.
    first = 1 + 3 * keep
    _break_at_each(
        amount(7, soak=1), first, direction, keep, proxied.bridge, proxied.proxy, counter
    )
    figure(13, broken_exchanges=proxied.proxy.cuts, done_twice=0)


@pytest.mark.slow
@pytest.mark.sshd
@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT])
def test_request_is_done_once_at_whichever_byte_its_ssh_connection_breaks(
    direction: str, make_head: MakeHead, tmp_path: Path, amount: Amount, figure: Figure
) -> None:
    head = make_head()
    step = amount(37, soak=5)
    with FlakyProxy((head.sshd.host, head.sshd.port)) as proxy:
        config = str(through_proxy(head.sshd, proxy))
        counter = head.sshd.home / "counter"
        with init_command_server(
            **{**head.keywords, "ssh_config": config}, autostart=True, transport="tunnel"
        ) as bridge:
            _break_at_each(step, 1, direction, False, bridge, proxy, counter)
        figure(13, broken_ssh_exchanges=proxy.cuts, done_twice=0)


@pytest.mark.slow
def test_very_first_request_is_done_once_or_told_as_lost(proxied: Proxied, counter: Path) -> None:
    """The server has heard nothing yet by which it would know this client again."""
    lost = 0
    for place in range(1, 500, 10):
        before = _runs(counter)
        with init_command_server(transport="direct") as bridge:
            proxied.proxy.cut_after(place, TO_SERVER)
            try:
                done = bridge.run(["sh", "-c", COUNT, str(counter), str(place)])
            except CommandLost:
                lost += 1
                assert _runs(counter) in (before, before + 1)
            else:
                assert (done.stdout, _runs(counter)) == (f"{place}\n", before + 1)
            proxied.proxy.cut_no_more()
    print(f"{lost} lost")
    assert _runs(counter) > 0


def _break_at_each(
    step: int,
    first: int,
    direction: str,
    keep: bool,
    bridge: Bridge,
    proxy: FlakyProxy,
    counter: Path,
) -> None:
    """Cuts after `first` bytes, `step` more, and so on, until the exchange ends before its cut."""
    assert bridge.run(["echo", "heard"]).stdout == "heard\n"  # the server knows us from now on
    place, cuts = first, proxy.cuts
    with _thread_of(bridge) as pool:
        while proxy.cuts == cuts:
            proxy.cut_after(place, direction)
            words = ["sh", "-c", COUNT, str(counter), str(place)]
            done = pool.submit(bridge.run, words, keep=keep).result(SECONDS)
            proxy.cut_no_more()
            assert (done.returncode, done.stdout) == (0, f"{place}\n")
            assert _runs(counter) == (place - first) // step + 1, f"cut after {place}"
            place, cuts = place + step, cuts + 1
    assert place > SHORTEST_EXCHANGE


@pytest.mark.slow
@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT])
def test_what_the_head_has_is_asked_again_where_the_link_breaks(
    direction: str, proxied: Proxied, counter: Path
) -> None:
    bridge = proxied.bridge
    counter.write_bytes(b"x")
    cuts = proxied.proxy.cuts
    proxied.proxy.cut_after(1, direction)
    asking = bridge.core.locate(("sh",), file=str(counter), content=b"x", timeout=SECONDS)
    found = bridge.portal.call(asking)
    assert found is not None
    assert (list(found.programs), found.shared) == (["sh"], True)
    assert proxied.proxy.cuts > cuts


# --- whom they talk to --------------------------------------------------------------------


class Proxied:
    """A server on this host, and a bridge to it over ZMQ through a proxy."""

    def __init__(
        self, make: MakeLocalServer, into: Path, proxy: FlakyProxy, server: LocalServer
    ) -> None:
        self.proxy = proxy
        self._make = make
        self._into = into
        self._server = server
        self._lead_to_it()
        self.bridge = server.init(transport="direct")
        self.onlooker = server.init(transport="local")

    def _lead_to_it(self) -> None:
        proxied_state(self._server.state_dir, self.proxy, self._into)
        self.proxy.target = ("127.0.0.1", self._server.port)

    def kill_and_follow(self) -> None:
        """Kills the server and makes another in its place, to which the proxy leads."""
        self._server.process.kill()
        self._server.process.wait()
        self._server = self._make()
        self._lead_to_it()
        self.proxy.cut()
        self.proxy.welcome()
        self.proxy.resume()


@pytest.fixture
def proxied(
    make_local_server: MakeLocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxied]:
    server = make_local_server()
    with FlakyProxy(("127.0.0.1", server.port)) as proxy:
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(tmp_path / "state"))
        made = Proxied(make_local_server, tmp_path / "state", proxy, server)
        yield made
        made.bridge.close()
        made.onlooker.close()


def _states(bridge: Bridge) -> list[str]:
    return [one.state for one in bridge.commands()]
