"""What each host is to become: its part in the topology, turned into files and daemons."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .accounts import password_files
from .host_init import GRID_ENGINE_COMMANDS, SLURM_COMMANDS, Plan
from .site import Site, other_pythons
from .topology import HOSTS, Place, hosts_file

__all__ = ["make_plan"]

ETC = Path(__file__).with_name("etc")
CONTROLLER = "login1"
PYTHONS = ["/usr/bin/python*", "/usr/local/bin/python*", "/usr/bin/pypy*", "/usr/local/bin/pypy*"]


def make_plan(place: Place, site: Site, root: str, boot_id: str) -> Plan:
    files = {"/etc/hosts": hosts_file(), "/etc/hostname": f"{place.name}\n", "/etc/resolv.conf": ""}
    private: dict[str, str] = {}
    # No host has it unless a test asks for it: see grid_engine.py.
    removed = [f"/usr/bin/{command}" for command in GRID_ENGINE_COMMANDS.split()]
    links: dict[str, str] = {}
    if place.has_sshd:
        files.update(_sshd_files(site))
        private["/etc/ssh/cluster_host_key"] = site.host_key(place.name)
    if place.has_slurm:
        files.update(_templates("/etc/slurm", "slurm.conf", "cgroup.conf"))
        private["/etc/munge/munge.key"] = site.munge_key
        private.update(_templates("/etc/slurm", "slurmdbd.conf"))
    else:
        removed += [f"/usr/bin/{command}" for command in SLURM_COMMANDS.split()]
    if place.python == "zmq":
        files["/usr/local/bin/python3"] = _wrapper(sys.executable)
    elif place.python != "any":
        removed += PYTHONS
    if place.python == "old":
        links["/usr/bin/python3"] = _old_python()
    return Plan(
        name=place.name,
        home=site.inside(site.path(f"home-{place.home}")),
        root=root,
        boot_id=boot_id,
        shown=[] if place.python == "none" else site.shown,
        files=files,
        appended={f"/etc/{name}": text for name, text in password_files().items()},
        private=private,
        removed=removed,
        has_sshd=place.has_sshd,
        has_slurm=place.has_slurm,
        is_controller=place.name == CONTROLLER,
        is_compute=place.is_compute,
        controller=HOSTS[CONTROLLER].address,
        links=links,
    )


def _sshd_files(site: Site) -> dict[str, str]:
    return {
        **_templates("/etc/ssh", "sshd_config"),
        **_templates("/usr/local/bin", "site-wrapper", "site-refusal"),
        "/etc/pam.d/sshd": (ETC / "pam_sshd").read_text("utf-8"),
        "/etc/ssh/ssh_known_hosts": site.keys.known_hosts,
    }


def _templates(directory: str, *names: str) -> dict[str, str]:
    return {f"{directory}/{name}": (ETC / name).read_text("utf-8") for name in names}


def _wrapper(python: str) -> str:
    """A script that is this Python, with its packages, under another name.

    Not a link: Python looks for its venv beside the name it was called by.  And not by the
    venv's own link, which may lead to the very file that the script replaces.
    """
    return f'#!/bin/bash\nexec -a {python} {os.path.realpath(python)} "$@"\n'


def _old_python() -> str:
    """A Python without pyzmq: the oldest that we support, or the one that the venv is of."""
    for versions in other_pythons():
        for found in sorted(versions.glob("3.9.*/bin/python3.9")):
            return str(found)
    return os.path.realpath(sys.executable)
