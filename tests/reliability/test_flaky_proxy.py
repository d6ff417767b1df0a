"""The proxy that the other tests of this directory stand on: it fails just as it is told to."""

from __future__ import annotations

import hashlib
import random
import resource
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.fixtures import MakeSshd
from tests.support.flaky_proxy import (
    TO_CLIENT,
    TO_SERVER,
    Address,
    FlakyProxy,
    proxied_state,
    through_proxy,
)
from tests.support.heads import MakeHead
from tests.support.local_server import LocalServer
from tests.support.waiting import wait_until

SECONDS = 60.0
QUIET_SECONDS = 0.2  # what must not come has not come by then

MANY = 64 * 1024 * 1024


class Target:
    """Accepts, and hands each connection to `serve` in a thread of its own."""

    def __init__(self, address: Address, serve: Callable[[socket.socket], None]) -> None:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self._listening = socket.socket(family)
        self._listening.bind(address)
        self._listening.listen(64)
        self.address: Address = address
        if family is socket.AF_INET:
            self.address = self._listening.getsockname()[:2]
        self._serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(end,), daemon=True).start()

    def _serve_one(self, end: socket.socket) -> None:
        with end:
            end.settimeout(SECONDS)
            try:
                self._serve(end)
            except OSError:
                return

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def _echo(end: socket.socket) -> None:
    while piece := end.recv(1 << 18):
        end.sendall(piece)


def _flood(end: socket.socket) -> None:
    block = bytes(range(256)) * 1024
    while True:
        end.sendall(block)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture(params=["tcp", "unix"])
def proxy(request: pytest.FixtureRequest, stack: ExitStack, tmp_path: Path) -> FlakyProxy:
    """Before an echo, over TCP or unix sockets at both sides."""
    is_tcp = request.param == "tcp"
    target = Target(("127.0.0.1", 0) if is_tcp else str(tmp_path / "target"), _echo)
    stack.callback(target.close)
    listen: Address = ("127.0.0.1", 0) if is_tcp else str(tmp_path / "proxy")
    return stack.enter_context(FlakyProxy(target.address, listen))


@pytest.fixture
def dial(stack: ExitStack) -> Callable[[FlakyProxy], socket.socket]:
    def dial(proxy: FlakyProxy) -> socket.socket:
        family = socket.AF_INET if isinstance(proxy.address, tuple) else socket.AF_UNIX
        end = stack.enter_context(socket.socket(family))
        end.settimeout(SECONDS)
        end.connect(proxy.address)
        return end

    return dial


Dial = Callable[[FlakyProxy], socket.socket]


def _read(end: socket.socket, count: int = -1) -> bytes:
    """`count` bytes, or all up to the end; a reset is an end."""
    found = bytearray()
    while count < 0 or len(found) < count:
        try:
            piece = end.recv(1 << 18 if count < 0 else count - len(found))
        except ConnectionResetError:
            break
        if not piece:
            break
        found += piece
    return bytes(found)


def _is_quiet(end: socket.socket) -> bool:
    """Whether nothing comes, not even an end."""
    end.settimeout(QUIET_SECONDS)
    try:
        end.recv(1)
    except socket.timeout:
        return True
    finally:
        end.settimeout(SECONDS)
    return False


# --- as long as nothing fails


def test_bytes_pass_both_ways_and_are_counted(proxy: FlakyProxy, dial: Dial) -> None:
    one, other = dial(proxy), dial(proxy)
    one.sendall(b"one")
    other.sendall(b"other")
    assert (_read(one, 3), _read(other, 5)) == (b"one", b"other")
    assert proxy.connections == proxy.open_connections == 2
    wait_until(lambda: proxy.bytes == {TO_SERVER: 8, TO_CLIENT: 8})  # counted once sent
    assert proxy.cuts == 0


def test_half_closed_connection_still_gets_its_answer(proxy: FlakyProxy, dial: Dial) -> None:
    end = dial(proxy)
    end.sendall(b"question")
    end.shutdown(socket.SHUT_WR)
    assert _read(end) == b"question"
    wait_until(lambda: proxy.open_connections == 0)


def test_megabytes_arrive_unchanged_and_fast(
    proxy: FlakyProxy, dial: Dial, record_property: Callable[[str, object], None]
) -> None:
    sent, got = hashlib.sha256(), hashlib.sha256()
    end, block = dial(proxy), secrets.token_bytes(1 << 20)

    def send() -> None:
        for _ in range(MANY // len(block)):
            end.sendall(block)
            sent.update(block)
        end.shutdown(socket.SHUT_WR)

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while piece := end.recv(1 << 18):
        got.update(piece)
    took = time.monotonic() - began
    sender.join(SECONDS)
    assert sent.digest() == got.digest()
    # There and back again, with both digests: what a link under test carries is far less.
    record_property("MB/s", round(MANY / took / 1e6))
    print(f"{MANY / took / 1e6:.0f} MB/s there and back")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 16 * 1024, f"{grown} KiB more for {MANY} bytes"


# --- cuts


@pytest.mark.parametrize("seed", range(5))
def test_receiver_gets_exactly_the_bytes_before_the_cut(
    seed: int, proxy: FlakyProxy, dial: Dial
) -> None:
    chance = random.Random(seed)
    count = chance.randint(1, 3_000_000)
    print(f"seed {seed}: {count} bytes")
    proxy.cut_after(count, TO_CLIENT)
    end, block = dial(proxy), chance.getrandbits(8 * 4096).to_bytes(4096, "big")

    def send() -> None:
        try:
            while True:
                end.sendall(block)
        except OSError:
            pass  # the cut

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    got = _read(end)
    assert len(got) == count == proxy.bytes[TO_CLIENT]
    assert got == (block * (count // len(block) + 1))[:count]
    assert proxy.cuts == 1
    end.close()
    sender.join(SECONDS)
    assert not sender.is_alive()


def test_slow_reader_still_gets_exactly_the_bytes_before_the_cut(
    dial: Dial, stack: ExitStack
) -> None:
    target = Target(("127.0.0.1", 0), _flood)
    stack.callback(target.close)
    proxy = stack.enter_context(FlakyProxy(target.address))
    proxy.cut_after(8_000_001, TO_CLIENT)
    end = dial(proxy)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    end.sendall(b"never read: a close with it unread would be a reset")
    assert len(_read(end)) == 8_000_001


def test_server_gets_exactly_the_bytes_before_the_cut(
    stack: ExitStack, dial: Dial, tmp_path: Path
) -> None:
    got: list[bytes] = []
    target = Target(str(tmp_path / "target"), lambda end: got.append(_read(end)))
    stack.callback(target.close)
    proxy = stack.enter_context(FlakyProxy(target.address))
    proxy.cut_after(12_345, TO_SERVER)
    end = dial(proxy)
    end.sendall(b"x" * 12_345 + b"y" * 1000)
    assert _read(end) == b""
    wait_until(lambda: [len(all_of_it) for all_of_it in got] == [12_345])


def test_planned_cut_costs_one_connection_and_the_next_ones_go_on(
    proxy: FlakyProxy, dial: Dial
) -> None:
    one, other = dial(proxy), dial(proxy)
    other.sendall(b"a")
    assert _read(other, 1) == b"a"
    proxy.cut_after(3, TO_CLIENT)
    one.sendall(b"12345")
    assert _read(one) == b"123"
    other.sendall(b"b")
    assert _read(other, 1) == b"b"
    assert proxy.open_connections == 1


def test_cuts_follow_one_another_at_random_places_up_to_their_number(
    proxy: FlakyProxy, dial: Dial
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    proxy.cut_often(random.Random(seed), 1, 50, TO_CLIENT, times=20)
    expected = random.Random(seed)
    for _ in range(20):
        end = dial(proxy)
        end.sendall(bytes(60))
        assert len(_read(end)) == expected.randint(1, 50)
    end = dial(proxy)
    end.sendall(bytes(60))
    assert len(_read(end, 60)) == 60
    assert proxy.cuts == 20


def test_plans_can_be_forgotten(proxy: FlakyProxy, dial: Dial) -> None:
    proxy.cut_after(3, TO_CLIENT)
    proxy.cut_no_more()
    end = dial(proxy)
    end.sendall(b"12345")
    assert _read(end, 5) == b"12345"


def test_every_connection_is_cut_now(proxy: FlakyProxy, dial: Dial) -> None:
    ends = [dial(proxy) for _ in range(5)]
    for end in ends:
        end.sendall(b"a")
        assert _read(end, 1) == b"a"
    assert proxy.cut() == 5
    assert [_read(end) for end in ends] == [b""] * 5
    assert (proxy.cuts, proxy.open_connections) == (5, 0)
    end = dial(proxy)
    end.sendall(b"again")
    assert _read(end, 5) == b"again"


# --- stalls, delays, newcomers


def test_stalled_connection_stays_open_and_loses_nothing(proxy: FlakyProxy, dial: Dial) -> None:
    end = dial(proxy)
    end.sendall(b"before")
    assert _read(end, 6) == b"before"
    proxy.stall()
    end.sendall(b"meanwhile")
    newcomer = dial(proxy)
    newcomer.sendall(b"newcomer")
    assert _is_quiet(end)
    assert _is_quiet(newcomer)
    proxy.resume()
    assert _read(end, 9) == b"meanwhile"
    assert _read(newcomer, 8) == b"newcomer"
    assert proxy.cuts == 0


def test_stalled_flood_takes_no_memory(dial: Dial, stack: ExitStack) -> None:
    target = Target(("127.0.0.1", 0), _flood)
    stack.callback(target.close)
    proxy = stack.enter_context(FlakyProxy(target.address))
    end = dial(proxy)
    _read(end, 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    proxy.stall()
    while not _is_quiet(end):
        pass  # what the kernel had
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
    # Resumed, it can still be cut while nobody reads.
    proxy.resume()
    assert proxy.cut() == 1


def test_end_of_a_peer_is_not_told_while_stalled(proxy: FlakyProxy, dial: Dial) -> None:
    end = dial(proxy)
    end.sendall(b"a")
    assert _read(end, 1) == b"a"
    proxy.stall()
    end.shutdown(socket.SHUT_WR)
    assert _is_quiet(end)
    proxy.resume()
    assert _read(end) == b""


def test_delay_is_paid_in_each_direction(proxy: FlakyProxy, dial: Dial) -> None:
    end = dial(proxy)
    proxy.delay = 0.05
    began = time.monotonic()
    end.sendall(b"a")
    assert _read(end, 1) == b"a"
    assert time.monotonic() - began >= 0.1


def test_refused_newcomer_and_the_one_who_stays(proxy: FlakyProxy, dial: Dial) -> None:
    end = dial(proxy)
    proxy.refuse()
    with pytest.raises(OSError):  # noqa: PT011 - refused, or no such socket
        dial(proxy)
    end.sendall(b"still")
    assert _read(end, 5) == b"still"
    proxy.welcome()
    other = dial(proxy)
    other.sendall(b"here again")
    assert _read(other, 10) == b"here again"


def test_silent_newcomer_waits_for_ever(proxy: FlakyProxy, dial: Dial) -> None:
    proxy.silence()
    end = dial(proxy)
    end.sendall(bytes(10_000))
    assert _is_quiet(end)
    assert proxy.bytes == {TO_SERVER: 0, TO_CLIENT: 0}
    proxy.welcome()
    other = dial(proxy)
    other.sendall(b"hello")
    assert _read(other, 5) == b"hello"
    assert _is_quiet(end)


def test_target_may_move(proxy: FlakyProxy, dial: Dial, stack: ExitStack) -> None:
    target = Target(("127.0.0.1", 0), lambda end: end.sendall(b"moved"))
    stack.callback(target.close)
    proxy.target = target.address
    assert _read(dial(proxy)) == b"moved"


def test_nobody_behind_it_ends_the_connection(proxy: FlakyProxy, dial: Dial) -> None:
    proxy.target = "/nonexistent/socket"
    assert _read(dial(proxy)) == b""


def test_closed_proxy_leaves_no_thread_and_no_listener(dial: Dial) -> None:
    with FlakyProxy("/nonexistent/socket") as proxy:
        proxy.silence()
        end = dial(proxy)
    assert _read(end) == b""
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    assert "flaky proxy" not in [thread.name for thread in threading.enumerate()]


# --- before the real things


def test_direct_rung_goes_through_it(
    local_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyProxy(("127.0.0.1", local_server.port)) as proxy:
        state = proxied_state(local_server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        bridge = local_server.init(transport="direct")
        assert bridge.status().transport == "direct"
        assert bridge.run(["echo", "through"]).stdout == "through\n"
        assert proxy.connections == 1
        assert proxy.bytes[TO_CLIENT] > 0
        bridge.close()


def test_local_rung_goes_through_it(
    local_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyProxy(local_server.beacon.socket, str(tmp_path / "proxy")) as proxy:
        state = proxied_state(local_server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        bridge = local_server.init(transport="local")
        assert bridge.run(["echo", "through"]).stdout == "through\n"
        assert proxy.connections == 1
        bridge.close()


@pytest.mark.parametrize("transport", ["tunnel", "stdio"])
def test_rungs_over_ssh_go_through_it(transport: str, make_head: MakeHead) -> None:
    head = make_head()
    with FlakyProxy((head.sshd.host, head.sshd.port)) as proxy:
        config = through_proxy(head.sshd, proxy)
        bridge = head.init(autostart=True, transport=transport, ssh_config=str(config))
        assert bridge.status().transport == transport
        assert bridge.run(["echo", "through"]).stdout == "through\n"
        assert proxy.connections == 1  # one login
        bridge.close()


def test_openssh_believes_the_host_key_through_it(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    with FlakyProxy((sshd.host, sshd.port)) as proxy:
        config = str(through_proxy(sshd, proxy))
        command = ["ssh", "-F", config, "-o", "BatchMode=yes", "head", "echo through"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.stdout == "through\n", done.stderr
        assert proxy.connections == 1
