#!/usr/bin/env python3
"""Starts the command server in the foreground, by hand: for fixed deployments.

    python scripts/start_cmd_server.py --addr 127.0.0.1 --port 5555

Runs on the head, from a clone or from an installed package; needs the standard library,
and pyzmq for the TCP port.  Ctrl-C or SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smartsim_bridge.server.__main__ import main as server_main  # noqa: E402


def main() -> int:
    """Hands the two choices to the server itself."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--addr", action="append", metavar="ADDRESS", help="repeatable; default 127.0.0.1"
    )
    parser.add_argument("--port", type=int, default=5555, help="0 takes any; default 5555")
    chosen = parser.parse_args()
    words = [word for addr in chosen.addr or ["127.0.0.1"] for word in ("--addr", addr)]
    return server_main(["serve", *words, "--port", str(chosen.port)])


if __name__ == "__main__":
    sys.exit(main())
