"""A fresh interpreter that connects and runs its first command; what `cold` starts.

    python -m benchmarks.newcomer bridge|execnet|mitogen '{"addr": ...}'

Prints one line of JSON: seconds for `imports`, made first and all of them, then for `first`:
the connection and the first command.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["IMPORTS"]

# What a connect loads on its way, so that it can be told from the connect itself.
WITHOUT_SSH = [
    *("smartsim_bridge.current", "smartsim_bridge.client.ladder"),
    *("smartsim_bridge.links.stream_link", "smartsim_bridge.links.zmq_link"),
]
WITH_SSH = [
    *WITHOUT_SSH,
    *("smartsim_bridge.ssh.ask", "smartsim_bridge.ssh.connection", "smartsim_bridge.ssh.target"),
    *("smartsim_bridge.ssh.tunnel", "smartsim_bridge.bootstrap.ensure"),
]
IMPORTS = {
    "local": WITHOUT_SSH,
    "direct": WITHOUT_SSH,
    "tunnel": WITH_SSH,
    "stdio": WITH_SSH,
    "execnet": ["execnet"],
    "mitogen": ["mitogen.master", "mitogen.ssh"],
}
COMMAND = ["true"]
LIMIT = 30.0  # seconds; whatever takes longer hangs


def by_bridge(keywords: dict[str, Any]) -> Callable[[], object]:
    """init_command_server, and the first command; gives what closes the connection."""
    from smartsim_bridge import init_command_server

    bridge = init_command_server(**keywords)
    bridge.run(COMMAND, check=True)
    return bridge.close


def by_execnet(keywords: dict[str, Any]) -> Callable[[], object]:
    """A gateway, and one remote_exec."""
    import execnet

    from .far import EXECNET_LOOP

    group: Any = execnet.Group()
    channel: Any = group.makegateway(keywords["spec"]).remote_exec(EXECNET_LOOP)
    channel.send(COMMAND)
    if channel.receive(timeout=LIMIT)[0]:
        raise RuntimeError("true failed")
    return lambda: group.terminate(timeout=LIMIT)


def by_mitogen(keywords: dict[str, Any]) -> Callable[[], object]:
    """A context, and one call."""
    import mitogen.master

    from .far import run_there

    broker: Any = mitogen.master.Broker()
    router: Any = mitogen.master.Router(broker)
    if router.ssh(**keywords).call(run_there, COMMAND)[0]:
        raise RuntimeError("true failed")
    return lambda: (broker.shutdown(), broker.join())


def main(way: str, text: str) -> None:
    """Measures, prints, then closes: the goodbye is not part of the start."""
    keywords = json.loads(text)
    ways: dict[str, Callable[[dict[str, Any]], Callable[[], object]]] = {
        "bridge": by_bridge,
        "execnet": by_execnet,
        "mitogen": by_mitogen,
    }
    begin = time.perf_counter()
    for module in IMPORTS[keywords.get("transport", way)]:
        import_module(module)
    loaded = time.perf_counter()
    close = ways[way](keywords)
    done = time.perf_counter()
    print(json.dumps({"imports": loaded - begin, "first": done - loaded}), flush=True)
    close()


if __name__ == "__main__":
    main(*sys.argv[1:])
