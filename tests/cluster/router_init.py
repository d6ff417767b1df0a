"""PID 1 of the site: its network namespace is the router, its end is the cluster's end.

Started by cluster.py under `unshare --mount --net --pid`.  The hosts are started inside its
pid namespace, so the kernel ends all of them with it, and it ends when its standard input
does: with the test process, however that may have died.  Argument: where to mount the
file system that the hosts share.  Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.first_process import live_until_input_ends


def main() -> None:
    base = sys.argv[1]
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "cluster", base], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    # /proc is still the machine's, so this is our number as the tests see it.
    print(os.readlink("/proc/self"), flush=True)
    live_until_input_ends()


if __name__ == "__main__":
    main()
