"""What the cluster needs of the machine, and what of it is missing.

    python -m tests.cluster.needs      prints the Debian packages that are missing, in a line

scripts/test installs what this prints.  Standard library only: nothing is installed yet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["missing_packages", "why_no_cluster"]

# Program -> the package that has it.
PROGRAMS = {
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "fish": "fish",
    "hostname": "hostname",
    "ip": "iproute2",
    "kadmin.local": "krb5-admin-server",
    "kinit": "krb5-user",
    "krb5kdc": "krb5-kdc",
    "ksh": "ksh",
    "mariadbd": "mariadb-server-core",
    "munged": "munge",
    "my_print_defaults": "mariadb-client-core",  # which mariadb-install-db calls
    "nft": "nftables",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "sbatch": "slurm-client",
    "sendmail": "dma",  # Grid Engine wants a mailer; this one is no daemon
    "sge_execd": "gridengine-exec",
    "sge_qmaster": "gridengine-master",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "softhsm2-util": "softhsm2",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "tcsh": "tcsh",
    "zsh": "zsh",
}
# OpenSSH's own security key without hardware.
FILES = {"/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so": "openssh-tests"}
PAM_MODULES = {"pam_google_authenticator.so": "libpam-google-authenticator"}

# Root's, and not the caller's: the hosts have this one.
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def missing_packages() -> list[str]:
    """The Debian packages without which no cluster boots."""
    missing = [
        package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)
    ]
    missing += [package for path, package in FILES.items() if not Path(path).exists()]
    for module, package in PAM_MODULES.items():
        if not any(Path("/lib").glob(f"*/security/{module}")):
            missing.append(package)
    return missing


def why_no_cluster() -> str:
    """What a person is told; empty where a cluster can be booted."""
    if sys.platform != "linux":
        return "the test cluster is made of Linux namespaces"
    if os.geteuid() != 0:
        return "the test cluster needs root, to make its namespaces"
    missing = missing_packages()
    if missing:
        return f"the test cluster needs packages: apt-get install {' '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "the test cluster needs /dev/net/tun, for its long cables"
    tried = subprocess.run(
        ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are forbidden here: {tried.stderr.strip()}" if tried.returncode else ""


if __name__ == "__main__":
    print(*missing_packages())
