"""The table of keywords, held against the ssh that is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge.ssh import keywords
from smartsim_bridge.ssh.keywords import ALIASES, CANNOT, HARMLESS, HONOURED, name_of

pytestmark = pytest.mark.usefixtures("needs_sshd")

# With a value ssh prints these, too, which without one it does not.
UNPRINTED = """
BindAddress ::1
BindInterface lo
CertificateFile /c
ControlPath /c
DynamicForward 1080
GSSAPIKeyExchange no
HostKeyAlias x
IdentityAgent /a
IgnoreUnknown x
KbdInteractiveDevices x
KnownHostsCommand /c
LocalCommand x
LocalForward 1 h:1
PKCS11Provider /p
PreferredAuthentications publickey
ProxyCommand x
RemoteCommand x
RemoteForward 1 h:1
RevokedHostKeys /r
SetEnv A=b
"""


def printed_by_ssh(config: str) -> Iterator[tuple[str, str]]:
    done = subprocess.run(
        ["ssh", "-G", "-F", config, "x"], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        yield keyword.lower(), value


def test_every_keyword_of_the_installed_ssh_is_in_the_table(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"IgnoreUnknown GSSAPIKeyExchange\n{UNPRINTED}")
    printed = {keyword for keyword, _value in printed_by_ssh(str(config))}
    assert len(printed) > 80
    # `host` is what was typed there, not the keyword.
    assert {keyword for keyword in printed if name_of(keyword) is None} == set()


def test_what_we_cannot_honour_is_not_what_ssh_does_by_itself() -> None:
    defaults = dict(printed_by_ssh("none"))
    for name, (harmless, _why) in CANNOT.items():
        if name.lower() in defaults:
            assert defaults[name.lower()] in harmless, name


def test_each_keyword_is_in_one_class_only() -> None:
    tables = [{name.lower() for name in table} for table in (HONOURED, HARMLESS, CANNOT)]
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert not set().union(*tables) & set(ALIASES)


def test_what_is_said_of_keywords_is_said_of_known_ones() -> None:
    for keyword in (*keywords.FLAGS, *keywords.LISTS, *keywords.COMMANDS, *ALIASES.values()):
        assert name_of(keyword) is not None, keyword
    assert name_of("frobnicate") is None


def test_every_other_name_is_one_for_ssh_as_well(tmp_path: Path) -> None:
    vendors = {"rsaminsize"}  # of Fedora
    config = tmp_path / "config"
    for alias in sorted(set(ALIASES) - vendors):
        config.write_text(f"{alias} ?\n")
        done = subprocess.run(
            ["ssh", "-G", "-F", str(config), "x"], capture_output=True, text=True, check=False
        )
        # Its value is what ssh may complain of, not its name.
        assert "Bad configuration option" not in done.stderr, alias
