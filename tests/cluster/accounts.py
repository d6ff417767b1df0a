"""Who has an account on the cluster, and what is odd about it.

Every account NAME has the password NAME-pw, and one key that opens all of them from the
laptop.  They exist in the hosts' own /etc/passwd only: the machine under the tests keeps none.
Homes are files that are written anew for each test, so that no test meets another's traces.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ACCOUNTS", "Account", "KeyRing", "TOTP_SECRET", "password_files", "write_homes"]

TOTP_SECRET = "JBSWY3DPEHPK3PXP"

# A hash that is quick to compute: the passwords are printed in this file anyway.
HASHING = "$5$rounds=1000$cluster$"

_TOTP_STATE = f'{TOTP_SECRET}\n" TOTP_AUTH\n" DISALLOW_REUSE_OFF\n'
_TCSHRC = """\
echo "*** WELCOME to the cluster (tcsh) -- quota 97% used ***"
echo "a word on the error stream" > /dev/stderr
setenv TESS 1
alias ls "ls -F"
"""
_NOISY_BASHRC = """\
echo "######## maintenance on Monday ########"
echo "a word on the error stream" >&2
printf "no newline at end"
"""


@dataclass(frozen=True)
class Account:
    """One account; `files` lie in its home on the cluster, not on the laptop."""

    name: str
    uid: int
    shell: str = "/bin/bash"
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> str:
        return f"/home/{self.name}"

    @property
    def password(self) -> str:
        return f"{self.name}-pw"


# Far from the uids that a Debian machine gives to people: a process of these is one of ours.
ACCOUNTS = {
    account.name: account
    for account in (
        Account("alice", 24001),
        Account("bob", 24002),
        Account("tess", 24003, "/usr/bin/tcsh", {".tcshrc": _TCSHRC}),
        Account("noisy", 24004, files={".bashrc": _NOISY_BASHRC}),
        Account("fiona", 24005, "/usr/bin/fish"),
        Account("zoe", 24006, "/usr/bin/zsh"),
        Account("kurt", 24007, "/usr/bin/ksh"),
        Account("dora", 24008, "/bin/dash"),
        Account("sloth", 24009, files={".bashrc": "echo >> ~/paid; sleep 3\n"}),
        Account("kim", 24010),
        Account("mfa", 24011, files={".google_authenticator": _TOTP_STATE}),
        Account("force", 24012),
        Account("jail", 24013),
        Account("nofwd", 24014),
        Account("nosh", 24015, "/usr/sbin/nologin"),
    )
}


@dataclass(frozen=True)
class KeyRing:
    """What all accounts have in ~/.ssh, as the text of the files."""

    key: str
    public: str
    locked_key: str  # with a passphrase; opens alice's account
    locked_public: str
    known_hosts: str


def password_files() -> dict[str, str]:
    """The lines for passwd, group and shadow."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    lines: dict[str, str] = {"passwd": "", "group": "", "shadow": ""}
    for one in ACCOUNTS.values():
        hashed = crypt(one.password.encode(), HASHING.encode()).decode()
        lines["passwd"] += f"{one.name}:x:{one.uid}:{one.uid}::{one.home}:{one.shell}\n"
        lines["group"] += f"{one.name}:x:{one.uid}:\n"
        lines["shadow"] += f"{one.name}:{hashed}:19000:0:99999:7:::\n"
    return lines


def write_homes(directory: Path, keys: KeyRing, *, has_sshd: bool, is_head: bool) -> None:
    """Every account's home below `directory`, as on its first day.

    `has_sshd`: the key opens the accounts there; `is_head`: their oddities are there too.
    """
    for account in ACCOUNTS.values():
        home = directory / account.name
        if home.exists():
            shutil.rmtree(home)
        files = _ssh_files(account, keys, has_sshd=has_sshd)
        if is_head:
            files.update(account.files)
        (home / ".ssh").mkdir(parents=True)
        for name, text in files.items():
            (home / name).write_text(text, encoding="utf-8")
            _give(home / name, account, 0o600)
        _give(home / ".ssh", account, 0o700)
        _give(home, account, 0o700)


def _ssh_files(account: Account, keys: KeyRing, *, has_sshd: bool) -> dict[str, str]:
    files = {
        ".ssh/id_ed25519": keys.key,
        ".ssh/id_ed25519.pub": keys.public,
        ".ssh/known_hosts": keys.known_hosts,
    }
    if has_sshd:
        files[".ssh/authorized_keys"] = keys.public
    if account.name == "alice":
        files[".ssh/id_locked"] = keys.locked_key
        if has_sshd:
            files[".ssh/authorized_keys"] += keys.locked_public
    return files


def _give(path: Path, account: Account, mode: int) -> None:
    os.chown(path, account.uid, account.uid)
    path.chmod(mode)
