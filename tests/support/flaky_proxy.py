"""A network that fails at a test's word: forwards connections, cuts, stalls and delays them.

    with FlakyProxy(("127.0.0.1", port)) as proxy:      or FlakyProxy("/path/of/a.sock")
        connect(proxy.address)
        proxy.cut()                                     every connection, now
        proxy.cut_after(1000, TO_CLIENT)                one, after exactly so many bytes
        proxy.cut_often(chance, 1, 100_000, TO_CLIENT)  again and again, at random places
        proxy.stall(); proxy.resume()                   a frozen peer, or dropped packets
        proxy.delay = 0.05                              seconds, for each piece
        proxy.refuse(); proxy.silence(); proxy.welcome()    what newcomers find

It runs in a thread of its own, so a blocking test may use it.  A word has taken effect when
its method returns.  It holds one piece per direction and connection, whatever is under way.

Before the sshd of a test, for the tunnel and the stdio rung:

    with FlakyProxy((head.sshd.host, head.sshd.port)) as proxy:
        bridge = head.init(autostart=True, ssh_config=str(through_proxy(head.sshd, proxy)))

Before the server's ZMQ port, for the direct rung (the local rung in the same way, with a
proxy that leads to the beacon's socket and listens on a path):

    with FlakyProxy(("127.0.0.1", local_server.port)) as proxy:
        state = proxied_state(local_server.state_dir, proxy, tmp_path / "state")
        monkeypatch.setenv("SMARTSIM_BRIDGE_STATE_DIR", str(state))
        bridge = local_server.init(transport="direct")
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from smartsim_bridge.protocol.beacon import Beacon

from .flaky_connection import TO_CLIENT, TO_SERVER, Address, Connection, ready
from .sshd import Sshd

__all__ = ["TO_CLIENT", "TO_SERVER", "Address", "FlakyProxy", "proxied_state", "through_proxy"]

BACKLOG = 512
WORD_SECONDS = 60.0  # until a word of the test must have taken effect

Result = TypeVar("Result")


class FlakyProxy:
    """Leads to `target` from `address`; what it counts may be read from any thread.

    `connections` were accepted so far, `open_connections` are there now, `cuts` were made by
    us, `bytes` were handed on per direction.  `delay` and `target` may be set at any time;
    a new target is for new connections.
    """

    def __init__(self, target: Address, listen: Address = ("127.0.0.1", 0)) -> None:
        self.target = target
        self.address = listen
        self.delay = 0.0
        self.connections = 0
        self.cuts = 0
        self.bytes = {TO_CLIENT: 0, TO_SERVER: 0}
        self._open: set[Connection] = set()
        self._budget: dict[str, int | None] = {TO_CLIENT: None, TO_SERVER: None}
        self._next_budget: dict[str, Callable[[], int | None]] = {}
        self._is_silent = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="flaky proxy", daemon=True)

    def __enter__(self) -> FlakyProxy:
        self._thread.start()
        try:
            self._do(self._begin())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._stop_loop()

    # --- the words of a test

    @property
    def open_connections(self) -> int:
        """How many are there now, the silent ones included."""
        return sum(not connection.was_cut for connection in list(self._open))

    @property
    def port(self) -> int:
        """Of the TCP address."""
        assert isinstance(self.address, tuple)
        return self.address[1]

    def cut(self) -> int:
        """Resets every connection; gives their number."""
        return self._do(self._cut_all())

    def cut_after(self, count: int, direction: str) -> None:
        """Cuts the connection that carries the last of the next `count` bytes.

        Whoever receives them gets exactly these and then the end of the stream; the other
        peer is reset.  The bytes of all connections in this direction count together.
        """
        assert count > 0
        self._call(self._plan, direction, count, lambda: None)

    def cut_often(
        self,
        chance: random.Random,
        smallest: int,
        largest: int,
        direction: str,
        times: int | None = None,
    ) -> None:
        """`cut_after` a random number of bytes, and again after each cut, `times` at most."""
        left = [times]

        def draw() -> int | None:
            if left[0] is not None:
                if left[0] == 0:
                    return None
                left[0] -= 1
            return chance.randint(smallest, largest)

        self._call(self._plan, direction, draw(), draw)

    def cut_no_more(self) -> None:
        """Forgets what `cut_after` and `cut_often` said."""
        self._call(self._forget_plans)

    def stall(self) -> None:
        """Hands nothing on any more, but leaves every connection open.

        As with a frozen peer, newcomers get in and some bytes are still taken.
        """
        self._call(self.flows.clear)

    def resume(self) -> None:
        """Goes on as if nothing had been: what waited is handed on."""
        self._call(self.flows.set)

    def refuse(self) -> None:
        """Newcomers are refused; who is connected stays."""
        self._do(self._stop_listening())

    def silence(self) -> None:
        """Newcomers are accepted, and then nothing ever comes: half-open."""
        self._call(self._fall_silent)

    def welcome(self) -> None:
        """Newcomers are forwarded again, at the same address.  Silent ones stay silent."""
        self._do(self._begin())

    # --- its thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.flows = asyncio.Event()
        self.flows.set()
        self._listening: socket.socket | None = None
        self._kept: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._loop.run_forever()
        self._loop.close()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WORD_SECONDS)

    def _do(self, word: Coroutine[Any, Any, Result]) -> Result:
        """Carries a word out in the proxy's thread, and waits until it is."""
        return asyncio.run_coroutine_threadsafe(word, self._loop).result(WORD_SECONDS)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        async def call() -> None:
            function(*arguments)

        self._do(call())

    async def _begin(self) -> None:
        self._is_silent = False
        self._listen()

    def _fall_silent(self) -> None:
        self._is_silent = True
        self._listen()

    def _listen(self) -> None:
        if self._listening is not None:
            return
        if isinstance(self.address, tuple):
            self._keep_port()
            listening = _bound_to(self.address)
        else:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(self.address)
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self._listening = listening
        self._acceptor = self._loop.create_task(self._accept(listening))

    def _keep_port(self) -> None:
        """While newcomers are refused nobody else may come by our port."""
        if self._kept is None:
            assert isinstance(self.address, tuple)
            self._kept = _bound_to(self.address)
            self.address = self._kept.getsockname()[:2]

    async def _stop_listening(self) -> None:
        if self._listening is None or self._acceptor is None:
            return
        self._acceptor.cancel()
        await asyncio.wait([self._acceptor])
        self._take_who_waits()
        self._listening.close()
        self._listening = None
        if isinstance(self.address, str):
            os.unlink(self.address)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            await ready(listening, self._loop.add_reader, self._loop.remove_reader)
            self._take_who_waits()

    def _take_who_waits(self) -> None:
        """Without a wait between the kernel's list and ours: nobody is forgotten there."""
        while self._listening is not None:
            try:
                near, _ = self._listening.accept()
            except BlockingIOError:
                return
            self.connections += 1
            connection = Connection(self, near)
            self._open.add(connection)
            connection.start(is_silent=self._is_silent)

    async def _end(self) -> None:
        await self._stop_listening()
        for connection in list(self._open):
            await connection.reset()
        if self._kept is not None:
            self._kept.close()

    async def _cut_all(self) -> int:
        self._take_who_waits()
        doomed = [connection for connection in self._open if not connection.was_cut]
        for connection in doomed:
            await connection.reset()
        self.cuts += len(doomed)
        return len(doomed)

    # --- what connections ask

    def _plan(self, direction: str, count: int | None, following: Callable[[], int | None]) -> None:
        self._budget[direction] = count
        self._next_budget[direction] = following

    def _forget_plans(self) -> None:
        for direction in self._budget:
            self._plan(direction, None, lambda: None)

    def count_bytes(self, direction: str, count: int) -> None:
        """They were handed on."""
        self.bytes[direction] += count

    def count_cut(self) -> None:
        """A planned cut was made."""
        self.cuts += 1

    def forget(self, connection: Connection) -> None:
        """It is over."""
        self._open.discard(connection)

    def grant(self, direction: str, wanted: int) -> tuple[int, bool]:
        """How many bytes may still go, and whether the connection ends after them."""
        budget = self._budget[direction]
        if budget is None:
            return wanted, False
        if wanted < budget:
            self._budget[direction] = budget - wanted
            return wanted, False
        self._budget[direction] = self._next_budget[direction]()
        return budget, True


def _bound_to(address: tuple[str, int]) -> socket.socket:
    """Linux lets several have the same port, as long as one of them at most listens."""
    made = socket.socket(socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    return made


# --- in front of what


def through_proxy(sshd: Sshd, proxy: FlakyProxy) -> Path:
    """An ssh_config in which the alias of `sshd` leads through `proxy`, host keys known."""
    assert isinstance(proxy.address, tuple)
    host, port = proxy.address
    config = sshd.ssh_config.with_name(f"config-{port}")
    known_hosts = sshd.known_hosts.with_name(f"known_hosts-{port}")
    known_hosts.write_text(
        "".join(f"[{host}]:{port} {line}\n" for line in sshd.host_key_lines), encoding="ascii"
    )
    replaced = {
        "HostName": host,
        "Port": str(port),
        "UserKnownHostsFile": str(known_hosts),
    }
    lines = []
    for line in sshd.ssh_config.read_text("utf-8").splitlines():
        keyword = line.split()[0]
        lines.append(f"  {keyword} {replaced[keyword]}" if keyword in replaced else line)
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return config


def proxied_state(state_dir: Path, proxy: FlakyProxy, into: Path) -> Path:
    """A copy of a state directory whose one beacon names the proxy instead of the server.

    Its ZMQ endpoint, where the proxy listens on TCP, else its unix socket.  The server goes
    on with its own directory: after a restart of the server, or to lead back to the server
    itself, call this again, and set `proxy.target`.
    """
    servers = into / "servers"
    servers.mkdir(mode=0o700, parents=True, exist_ok=True)
    into.chmod(0o700)
    (original,) = (state_dir / "servers").glob("*.json")
    beacon = Beacon.from_json(original.read_text("utf-8"))
    if isinstance(proxy.address, tuple):
        host, port = proxy.address
        beacon = replace(beacon, endpoints=(f"tcp://{host}:{port}",))
    else:
        beacon = replace(beacon, socket=proxy.address)
    for old in servers.iterdir():
        old.unlink()
    keys = original.with_suffix(".key")
    if keys.exists():
        shutil.copy(keys, servers / keys.name)  # with its mode
    (servers / original.name).write_text(beacon.to_json() + "\n", encoding="utf-8")
    return into
