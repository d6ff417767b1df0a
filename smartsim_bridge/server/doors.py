"""Where clients come in: the unix socket, and ZMQ over TCP where there is pyzmq.

The keys are made here and live as long as the doors, also where another program opens them
again.  Knows links; who may talk through them is the business of `visits`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ServerStartFailed
from ..links.link import Link
from ..links.stream_link import StreamListener
from ..protocol.beacon import Credentials

__all__ = ["Doors"]

log = logging.getLogger(__name__)

# For ports that we have just let go of ourselves: nobody else should have them by then.
REBIND_SECONDS, REBIND_PAUSE = 5.0, 0.1


class Doors:
    """All listeners of one server; `on_link` gets what comes in."""

    def __init__(
        self, socket: str, addresses: Sequence[str], port: int, on_link: Callable[[Link], None]
    ) -> None:
        self._socket = socket
        self._addresses = list(addresses)
        self._port = port
        self._on_link = on_link
        self._unix: StreamListener | None = None
        self._zmq: Any = None
        self._secret = ""  # of the server's CURVE key
        self.credentials: Credentials | None = None
        self.endpoints: tuple[str, ...] = ()
        self.zmq_version = ""
        self.why_no_zmq = ""

    async def open(self) -> None:
        """Raises ServerStartFailed; what is open then, `close` closes."""
        await self._open_unix()
        self._open_zmq(self._addresses, ())

    async def open_again(self) -> None:
        """The same, with the same keys, and ZMQ where there was none and there is pyzmq now.

        Never raises: what cannot be opened is shut, for commands run that need a server.
        """
        end = asyncio.get_running_loop().time() + REBIND_SECONDS
        # ZMQ first: who came by it finds it again, and need not make do with the other.
        fault = self._open_zmq_again()
        try:
            await self._open_unix()
        except ServerStartFailed as refused:
            log.error("%s", refused)
        while fault is not None:
            if not self.endpoints or asyncio.get_running_loop().time() > end:
                log.error("%s", fault)
                self.endpoints, self.why_no_zmq, self.zmq_version = (), fault.what, ""
                self.credentials = None
                return
            await asyncio.sleep(REBIND_PAUSE)
            fault = self._open_zmq_again()

    def _open_zmq_again(self) -> ServerStartFailed | None:
        """At the same addresses and ports, if there were any; why not, if they are in use."""
        where = [endpoint[len("tcp://") :].rpartition(":") for endpoint in self.endpoints]
        addresses = [address.strip("[]") for address, _, _ in where] or self._addresses
        try:
            self._open_zmq(addresses, [int(port) for _, _, port in where])
        except ServerStartFailed as fault:
            return fault
        return None

    @property
    def can_be_found(self) -> bool:
        """Whether the unix socket is still in its place."""
        return self._unix is not None and self._unix.can_be_found

    async def return_(self) -> None:
        """Puts the unix socket there again; raises OSError."""
        if self._unix is not None:
            await self._unix.listen(self._socket)

    async def hide(self) -> None:
        """Nobody comes in by the unix socket any more; who is inside stays."""
        if self._unix is not None:
            await self._unix.close()
            self._unix = None

    def close(self) -> None:
        """Cuts what came in over ZMQ, once `hide` and the end of all visits are past."""
        listener, self._zmq = self._zmq, None
        if listener is not None:
            listener.close()

    def hand_over(self) -> dict[str, Any]:
        """The keys, and where they belong."""
        credentials = self.credentials
        return {
            "credentials": credentials.to_json() if credentials is not None else None,
            "secret": self._secret,
            "endpoints": self.endpoints,
            "why_no_zmq": self.why_no_zmq,
        }

    def take_over(self, past: dict[str, Any]) -> None:
        """To be opened again as they were."""
        credentials = past["credentials"]
        self.credentials = None if credentials is None else Credentials.from_json(credentials)
        self._secret, self.endpoints = past["secret"], tuple(past["endpoints"])
        self.why_no_zmq = past["why_no_zmq"]

    # --- inside

    async def _open_unix(self) -> None:
        self._unix = StreamListener(self._on_link)
        try:
            await self._unix.listen(self._socket)
        except OSError as refused:
            raise ServerStartFailed(
                f"Cannot listen on {self._socket}: {refused.strerror}", step="listen"
            ) from None

    def _open_zmq(self, addresses: list[str], ports: Sequence[int]) -> None:
        try:
            from ..links import zmq_listener  # the only place that needs pyzmq

            version = sys.modules["zmq"].__version__
            keys, secret = self.credentials, self._secret
            if keys is None:
                keys, secret = zmq_listener.new_credentials()
            listener = zmq_listener.ZmqListener(self._on_link)
        except Exception as broken:  # noqa: BLE001 - a half-installed pyzmq raises anything
            self._without_zmq(broken)
            return
        try:
            self.endpoints = listener.listen(addresses, self._port, keys, secret, ports)
        except ServerStartFailed:
            raise
        except Exception as broken:  # noqa: BLE001 - as above
            # Kept and never closed: what is broken may hang while it is ended.
            self._broken = listener
            self._without_zmq(broken)
            return
        self._zmq, self.credentials, self._secret = listener, keys, secret
        self.zmq_version, self.why_no_zmq = version, ""

    def _without_zmq(self, why: Exception) -> None:
        log.info("no ZMQ: %s: %s", type(why).__name__, why)
        self.why_no_zmq = _one_line(why)
        if self._port != 0:
            # Clients were told this port; a server that they cannot reach helps nobody.
            raise ServerStartFailed(
                f"Port {self._port} cannot be served: {self.why_no_zmq}",
                step="listen",
                advice="Install pyzmq for this Python, or leave the port out (--port 0): "
                "the unix socket needs none.",
            )


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200] or type(fault).__name__
