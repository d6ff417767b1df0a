#!/usr/bin/env python3
"""Starts the command server in the foreground, by hand: for fixed deployments.

    python scripts/start_cmd_server.py --addr 127.0.0.1 --port 5555

Runs on the head, from a clone or from an installed package.  It needs Python 3.9 or newer
with pyzmq; one without pyzmq fails unless --port 0 is given.  Ctrl-C or SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smartsim_bridge.server.__main__ import main as serve
from smartsim_bridge.server.options import add_serve_options

PORT = 5555  # what init_command_server() looks for where nothing else is said


def main() -> int:
    """The server's own options, with the well-known port as the default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_serve_options(parser, port=PORT)
    parser.parse_args()  # for its --help, and so that errors carry this name
    return serve(["serve", "--port", str(PORT), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
