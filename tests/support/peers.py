"""What may own a port instead of our server: each listens on 127.0.0.1 and gives its port."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["Peer", "http_peer", "silent_peer", "zmq_plain_peer"]

Peer = Callable[[], AbstractContextManager[int]]


@contextmanager
def silent_peer() -> Iterator[int]:
    """Accepts, as the kernel does it, and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


@contextmanager
def http_peer() -> Iterator[int]:
    """A web server."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextmanager
def zmq_plain_peer() -> Iterator[int]:
    """A ZMQ socket without encryption, as somebody's own script may have."""
    import zmq

    context = zmq.Context()
    try:
        with context.socket(zmq.ROUTER) as router:
            router.linger = 0
            yield router.bind_to_random_port("tcp://127.0.0.1")
    finally:
        context.term()
