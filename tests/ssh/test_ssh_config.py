"""What we read must be what ssh reads: most cases here are put to `ssh -G` as well."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from smartsim_bridge.errors import InvalidSettings, UnsupportedSshConfig
from smartsim_bridge.ssh.config_line import is_matching_any
from smartsim_bridge.ssh.ssh_config import read_host_config
from tests.support.config_answers import ME, disagreements, read, said_by_ssh, write_config

CORPUS = {
    "one host": "Host login1\n  HostName h.example\n  Port 2222\n  User ann",
    "first value wins": "Host login1\n User ann\nHost *\n User bob\n Port 2200",
    "pattern": "Host log*\n  HostName %h.example.org",
    "negated pattern": "Host * !login1\n  User bob\nHost *\n  User ann",
    "question mark": "Host login?\n  Port 23",
    "equals sign and quotes": 'Host=login1\n  User = "ann"\n  Port=24',
    "trailing comment": "Host login1 # the first\n  User ann # or bob",
    "several names": "Host a b login1 c\n  Port 25",
    "match all": "Match all\n  Port 26",
    "match host after HostName": "Host login1\n HostName h.site\nMatch host *.site\n Port 27",
    "match originalhost": "Host login1\n HostName h.site\nMatch originalhost login1\n Port 28",
    "match negated": "Match !host other\n  Port 29",
    "match user": "Host login1\n User ann\nMatch user ann,bob\n Port 30",
    "match localuser": f"Match localuser {ME}\n  Port 31",
    "match exec true": "Match exec true\n  Port 32",
    "match exec false": "Match exec false\n  Port 33\nHost *\n  Port 34",
    "match exec with tokens": 'Match exec "test %h = login1 -a %n = login1"\n  Port 35',
    "match two criteria": "Match host l* exec false\n Port 36\nMatch host l* exec true\n Port 37",
    "match final": "Match final\n  Port 38\nHost login1\n  HostName h.site",
    "final pass sees HostName": "Host login1\n HostName h.site\nMatch final host h.site\n Port 39",
    "Host in the final pass": "Match final\nHost h.s\n User ann\nHost login1\n HostName h.s",
    "no match at all": "Host elsewhere\n  Port 40",
    "jump before command": "ProxyJump gate\nProxyCommand nc %h %p",
    "command before jump": "ProxyCommand nc %h %p\nProxyJump gate",
    "keyword in any case": "hOsT login1\n pOrT 41\n uSER ann",
    "tabs and indents": "Host\tlogin1\n\t\tPort\t42",
    "identities add up": "IdentityFile /k/one\nHost *\n IdentityFile /k/two\n IdentityFile /k/one",
    "alias for the key": "HostKeyAlias cluster",
    "yes and no": "IdentitiesOnly yes\nHashKnownHosts yes",
    "address family": "AddressFamily inet6\nBindAddress ::1",
    "known hosts files": "UserKnownHostsFile /a/one /a/two\nGlobalKnownHostsFile /etc/x",
    "escaped quote": 'Host login1\n  User "an\\"n"',
    "hash inside a word": "Host login1\n  User ann#1",
}


@pytest.mark.parametrize("case", CORPUS)
def test_what_we_read_is_what_ssh_reads(case: str, tmp_path: Path, needs_sshd: None) -> None:
    theirs = said_by_ssh(write_config(tmp_path, CORPUS[case]))
    defaults = said_by_ssh(Path("none"))
    assert theirs is not None
    assert defaults is not None
    assert disagreements(read(tmp_path, CORPUS[case]), theirs, defaults) == {}


def test_what_is_given_wins_and_steers_match(tmp_path: Path) -> None:
    text = "Host login1\n User ann\n Port 23\nMatch user bob\n IdentityFile /k/bob"
    config = read(tmp_path, text, user="bob", port="24")
    theirs = said_by_ssh(tmp_path / ".ssh" / "config", "-l", "bob", "-p", "24")
    assert theirs is not None
    assert [config.first("user")] == theirs["user"] == ["bob"]
    assert [config.first("port")] == theirs["port"] == ["24"]
    assert config.values["identityfile"] == theirs["identityfile"] == ["/k/bob"]


def test_include_reads_globs_under_the_users_directory(tmp_path: Path) -> None:
    parts = tmp_path / ".ssh" / "conf.d"
    parts.mkdir(parents=True)
    (parts / "1").write_text("Host login1\n  Port 50\nHost other\n  Port 51\n")
    (parts / "2").write_text("User ann\n")
    config = read(tmp_path, "Include conf.d/*\nHost login1\n  Port 52\n  HostName h.site")
    assert (config.first("port"), config.first("user"), config.hostname) == ("50", "ann", "h.site")


def test_include_under_another_host_says_nothing(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text("Host *\n  Port 50\n")
    config = read(tmp_path, f"Host other\n  Include {part}\nHost login1\n  User ann")
    assert not config.is_set("port")
    assert config.first("user") == "ann"


def test_after_an_include_the_enclosing_host_goes_on(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text("Host other\n  Port 50\n")
    config = read(tmp_path, f"Host login1\n  Include {part}\n  Port 53")
    assert config.first("port") == "53"
    theirs = said_by_ssh(tmp_path / ".ssh" / "config")
    assert theirs is not None
    assert theirs["port"] == ["53"]


def test_include_of_home_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("Port 54\n")
    config = read(tmp_path, "Include ~/missing ~/part")
    assert config.first("port") == "54"


def test_include_of_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSshConfig, match="too many files"):
        read(tmp_path, "Include ~/.ssh/config")


def test_the_users_file_wins_over_the_systems(tmp_path: Path) -> None:
    write_config(tmp_path, "Host login1\n  HashKnownHosts no\n  User ann")
    config = read_host_config("login1", path=None, given={}, local_user=ME, home=str(tmp_path))
    assert config.first("user") == "ann"
    assert config.first("hashknownhosts") == "no"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="is not a file"):
        read_host_config("login1", path=str(tmp_path / "x"), given={}, local_user=ME, home="/")


@pytest.mark.parametrize(
    "text",
    [
        "Match tagged fast\n  Port 23",
        "Match localnetwork 10.0.0.0/8\n  Port 23",
        "Match sessiontype exec\n  Port 23",
        "Match version OpenSSH*\n  Port 23",
        "CanonicalizeHostname yes",
        "ProxyUseFdpass yes",
        "KnownHostsCommand /bin/true",
        "RevokedHostKeys /etc/ssh/revoked",
        "BindInterface eth0",
        "HostName %C",
        "Include ${XDG_CONFIG_HOME}/ssh/*",
        "SetEnv PROJECT=x",
        'Match host "a',
        "Frobnicate yes",
        "Host elsewhere\n Frobnicate yes",
        "Frobnicate yes\nIgnoreUnknown Frob*",
        "UserKnownHostsFile ~/known\nInclude %h",
        "CheckHostIP yes",
        "HostbasedAuthentication yes",
        "VerifyHostKeyDNS yes",
        "CertificateFile ~/cert",
        "PKCS11Provider /lib/x.so",
        "RequiredRSASize 4096",
        "GSSAPIKeyExchange yes",
        "CanonicalizePermittedCNAMEs *.a:*.b",
        "RefuseConnection x",
        "Match host 'login1'\n  Port 23",
        'Match exec "test \\"a\\" = a"\n  Port 23',
    ],
)
def test_what_we_cannot_honour_is_refused_and_not_passed_over(text: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSshConfig):
        _ = read(tmp_path, text).hostname


@pytest.mark.parametrize(
    "text",
    [
        'User "ann',
        "Port 23 24",
        "Host",
        "Match",
        "Match host",
        "Match all host login1",
        "IdentitiesOnly maybe",
        "Host elsewhere\n  User a b",
        "ProxyJump a, b",
        "Port",
        'User ""',
    ],
)
def test_what_ssh_refuses_is_refused(text: str, tmp_path: Path) -> None:
    path = write_config(tmp_path, text)
    command = ["ssh", "-G", "-F", str(path), "login1"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    with pytest.raises(InvalidSettings, match="config:"):
        read(tmp_path, text)


def test_a_criterion_behind_one_that_fails_is_not_looked_at(tmp_path: Path) -> None:
    config = read(tmp_path, "Match host other tagged fast\n  Port 23")
    assert not config.is_set("port")


def test_match_exec_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartsim_bridge.ssh.ssh_config.MATCH_EXEC_SECONDS", 0.05)
    with pytest.raises(UnsupportedSshConfig, match="did not end"):
        read(tmp_path, 'Match exec "exec sleep 30"\n  Port 23')


@pytest.mark.parametrize(
    ("name", "patterns", "is_match"),
    [
        ("login1", ["login?"], True),
        ("login1", ["LOGIN*"], True),
        ("login1", ["*", "!login1"], False),
        ("login1", ["!other"], False),
        ("[h]:2222", ["[h]:2222"], True),
        ("h", ["[h]"], False),
        ("login1", [], False),
    ],
)
def test_pattern_lists_match_as_in_openssh(name: str, patterns: list[str], is_match: bool) -> None:
    assert is_matching_any(name, patterns) is is_match
