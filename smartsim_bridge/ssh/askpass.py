"""What ssh calls to have a prompt answered: hands it to the bridge that started ssh.

    python -I -S askpass.py SOCKET [PROMPT]

Stands alone: it runs as a program, without this package.  The prompt goes to the unix
socket, the answer comes back through it and leaves on standard output, where only ssh reads.
Nothing secret is ever in its arguments or its environment.
"""

from __future__ import annotations

import os
import socket
import sys

__all__ = ["ANSWERED", "main"]

#: The first byte of what comes back; without it there is no answer.
ANSWERED = b"+"


def main(arguments: list[str]) -> int:
    """Exit status 1 where nobody answers: ssh then goes without."""
    path, prompt = arguments[0], " ".join(arguments[1:])
    kind = os.environ.get("SSH_ASKPASS_PROMPT", "")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bridge:
            bridge.connect(path)
            bridge.sendall(os.fsencode(f"{kind}\0{prompt}"))
            bridge.shutdown(socket.SHUT_WR)
            said = b""
            while part := bridge.recv(65536):
                said += part
    except OSError:
        return 1
    if not said.startswith(ANSWERED):
        return 1
    os.write(1, said[len(ANSWERED) :] + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
