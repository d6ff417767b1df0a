"""What the cluster needs of the machine, and what of it is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

__all__ = ["what_is_missing"]

# Program -> the Debian package that has it; scripts/venv.sh installs the same.
PROGRAMS = {
    "fish": "fish",
    "ip": "iproute2",
    "ksh": "ksh",
    "mariadbd": "mariadb-server",
    "munged": "munge",
    "nft": "nftables",
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "tcsh": "tcsh",
    "zsh": "zsh",
}
PAM_MODULES = {"pam_google_authenticator.so": "libpam-google-authenticator"}
SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def what_is_missing() -> str:
    """Why no cluster can be booted here; empty where one can."""
    if sys.platform != "linux":
        return "a cluster is made of Linux namespaces"
    if os.geteuid() != 0:
        return "a cluster needs root, for its namespaces"
    packages = [
        package
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=SYSTEM_PATH) is None
    ]
    packages += [
        package
        for module, package in PAM_MODULES.items()
        if not [*Path("/lib").glob(f"*/security/{module}")]
    ]
    if packages:
        return f"a cluster needs more of Debian: apt-get install {' '.join(packages)}"
    return ""
