"""Files as people write them, and as somebody hostile might: read as `ssh -G` reads them.

Each case is compared in all keywords that we honour.  Where ssh refuses the file, so do we;
where we say that something cannot be honoured, the case stands under that heading.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smartsim_bridge.errors import InvalidSettings, UnsupportedSshConfig
from smartsim_bridge.ssh.config_line import is_matching_any
from smartsim_bridge.ssh.target import resolve_target
from tests.support.config_answers import ME, disagreements, read, said_by_ssh, write_config

pytestmark = pytest.mark.usefixtures("needs_sshd")

SITE = """
# A site's own, as its web page gives it.
Host *.site.org login?.site.org
    User ann
    ProxyJump gate.site.org
    IdentityFile ~/.ssh/id_%r_site
Host gate.site.org
    ProxyJump none
    Port 2200
Host login1
    HostName login1.site.org
    HostKeyAlias site-heads
    StrictHostKeyChecking yes
    UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts_site
Match host *.site.org exec "test %p = 22"
    Compression yes
    ServerAliveInterval 60
Host *
    AddKeysToAgent yes
    ControlMaster auto
    ControlPath ~/.ssh/cm-%C
    ForwardAgent no
    HashKnownHosts yes
"""

# As HPC centres have it for all their nodes.
MODERN = """
Host *
    Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr
    MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256
    KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
    HostKeyAlgorithms ssh-ed25519,rsa-sha2-512
    PubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-512
"""

CASES = {
    "empty": "",
    "a site": SITE,
    "lists of algorithms": MODERN,
    "only a comment": "# nothing\n   # here",
    "names keep their case in Host": "Host LOGIN1\n Port 23",
    "but not in Match host": "Match host LOGIN1\n Port 23",
    "users keep their case": "User ann\nMatch user ANN\n Port 23",
    "local users keep their case": f"Match localuser {ME.upper()}\n Port 23",
    "two exclamation marks": "Host * !!login1\n Port 23",
    "exclamation mark only": "Host !login1\n Port 23",
    "negation first": "Host !login1 *\n Port 23",
    "comma in Host": "Host login1,other\n Port 23",
    "comma in Match": "Match host login1,other\n Port 23",
    "negation in Match": "Match host *,!login1\n Port 23",
    "quoted pattern": 'Host "login1"\n Port 23',
    "pattern with a space": 'Host "login1 x" y\n Port 23',
    "quoted criterion": 'Match host "login1"\n Port 23',
    "equals signs in Match": "Match host=login1 user = ann,root\n Port 23",
    "comment behind Match": "Match host login1 # really\n Port 23",
    "match all alone": "Match !all\n Port 23\nMatch all\n Port 24",
    "match canonical": "Match canonical\n Port 23\nMatch canonical all\n Port 24",
    "match final all": "Match final all\n Port 23",
    "match not final": "Match !final\n Port 23",
    "criteria in capitals": "MATCH HOST login1 USER *\n Port 23",
    "original host is what was typed": "HostName x\nMatch originalhost x\n Port 23",
    "final sees the lower case": "HostName LOGIN.Site\nMatch final host login.site\n User z",
    "Host sees the address": "HostName 127.1\nMatch final\nHost 127.0.0.1\n User z",
    "short address": "HostName 127.1",
    "long address": "HostName 0:0:0:0:0:0:0:1",
    "percent in HostName": "HostName a%%b",
    "own name in HostName": "HostName %h.%h",
    "jump and then none": "ProxyJump gate\nHost *\n ProxyJump none",
    "none and then jump": "ProxyJump none\nProxyJump gate",
    "no jump leaves room for a command": "ProxyJump none\nProxyCommand nc %h",
    "no command leaves room for nothing": "ProxyCommand none\nProxyJump gate",
    "jump with comment": "ProxyJump gate # outside",
    "jump in capitals": "ProxyJump NONE",
    "command with hash and quotes": "ProxyCommand nc '%h' # \"x\" \\",
    "command with equals": "ProxyCommand=nc -x a=b %h",
    "identities of blocks": "IdentityFile a\nHost l*\n IdentityFile b\nHost x\n IdentityFile c",
    "identity twice": "IdentityFile /k\nIdentityFile /k",
    "identity in quotes": 'IdentityFile "/a b"',
    "identity with an escaped space": "IdentityFile /a\\ b",
    "identity in single quotes": "IdentityFile '/a \"b'",
    "no identity": "IdentityFile none",
    "backslashes that mean nothing": "User a\\nb\\\\c",
    "quote in a word": 'User a"b c"d',
    "alias of the key in capitals": "HostKeyAlias HeadS",
    "older names": "ChallengeResponseAuthentication no\nPubkeyAcceptedKeyTypes ssh-ed25519",
    "methods": "PreferredAuthentications publickey,password\nPasswordAuthentication no",
    "yes and true": "IdentitiesOnly true\nBatchMode Yes",
    "port with a zero": "Port 0022",
    "ignored keywords": "IgnoreUnknown UseKey*,Frob\nFrob x\nUseKeychain yes\nPort 23",
    "carriage returns": "Host login1\r\n  Port 23\r\n  User ann\r",
    "form feed": "Port 23\f\nUser ann",
    "vertical tab in a name": "User a\vb",
    "no-break space in a name": "User a\u00a0b",
    "line separator is no line": "User a\u2028Port 23",
    "next line is no line": "User a\u0085b",
    "NUL ends a line": "Port 23\0 24\nUser ann",
    "no UTF-8": "User a\udcffb",
    "very long line": "User " + "a" * 5000,
    "many blocks": "".join(f"Host h{n}\n Port {n + 1}\n" for n in range(2000)) + "Host *\n Port 5",
    "keyword in quotes": '"Port" 23',
    "sessions of persons": "RequestTTY force\nRemoteCommand tmux\nLocalForward 1 x:2\nSendEnv A*",
    "strict": "StrictHostKeyChecking accept-new",
    "no files of known hosts": "UserKnownHostsFile none\nGlobalKnownHostsFile none",
    # refused by ssh
    "port out of range": "Port 65536",
    "port nought": "Port 0",
    "port in words": "Port many",
    "unclosed quote": 'User "ann',
    "unclosed single quote": "User 'ann",
    "two users": "User a b",
    "no value": "HostName",
    "empty value": 'HostName ""',
    "two equals signs": "Port == 23",
    "Host of nobody": "Host",
    "Match of nothing": "Match",
    "Match without a value": "Match user",
    "Match with an unclosed quote": 'Match user "ann',
    "all among others": "Match all user x",
    "all behind others": "Match user x host y all",
    "spaces in a chain": "ProxyJump a, b",
    "neither yes nor no": "HashKnownHosts perhaps",
    "broken elsewhere": "Host elsewhere\n HashKnownHosts perhaps",
    "token of others in HostName": "HostName %n",
    "token at the end": "HostName h%",
}  # fmt: skip

CANNOT = {
    "unknown keyword": "Frobnicate yes",
    "byte order mark": "\ufeffPort 23",
    "ignored too late": "Frob x\nIgnoreUnknown Frob",
    "ignored elsewhere": "Host x\n IgnoreUnknown Frob\nHost *\n Frob x",
    "unknown criterion": "Match frob x\n Port 23",
    "younger criterion": "Match tagged x\n Port 23",
    "single quotes in Match": "Match host 'login1'\n Port 23",
    "variable in Include": "Include ${HOME}/x",
    "revoked keys": "RevokedHostKeys /r",
    "certificate": "CertificateFile /c",
    "certificate behind none": "CertificateFile none\nCertificateFile /c",
    "canonical names": "CanonicalizeHostname always",
}


@pytest.fixture(scope="module")
def defaults() -> Mapping[str, list[str]]:
    said = said_by_ssh(Path("none"))
    assert said is not None
    return said


@pytest.mark.parametrize("case", CASES)
def test_read_as_ssh_reads_it(case: str, tmp_path: Path, defaults: Mapping[str, list[str]]) -> None:
    theirs = said_by_ssh(write_config(tmp_path, CASES[case]))
    if theirs is None:
        with pytest.raises((InvalidSettings, UnsupportedSshConfig)):
            resolve(tmp_path, CASES[case])
        return
    assert disagreements(read(tmp_path, CASES[case]), theirs, defaults) == {}


@pytest.mark.parametrize("case", CANNOT)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSshConfig) as caught:
        resolve(tmp_path, CANNOT[case])
    assert caught.value.step == "resolve"
    assert f"{tmp_path}/.ssh/config:" in str(caught.value)


def resolve(home: Path, text: str) -> object:
    path = write_config(home, text)
    return resolve_target("login1", ssh_config=str(path), local_user=ME, home=str(home))


# --- files that include others ------------------------------------------------------------

INCLUDES = {
    "nested": {"config": "Include {0}/a\nPort 1", "a": "Include {0}/b\nPort 2", "b": "User u"},
    "in order of names": {
        "config": "Include {0}/d/*", "d/20": "Port 20", "d/10": "Port 10", "d/Z": "User z",
    },
    "hidden files": {"config": "Include {0}/d/*", "d/.x": "Port 20", "d/x": "User y"},
    "Host ends with the file": {
        "config": "Host login1\n Include {0}/a\n User u", "a": "Host other\n Port 2",
    },
    "under Host of others": {"config": "Host x\n Include {0}/a\nHost *\n User u", "a": "Port 2"},
    "under Match": {"config": "Match host l*\n Include {0}/a\n User u", "a": "Host l*\n Port 2"},
    "under Match final": {
        "config": "HostName h.s\nMatch final host h.s\n Include {0}/a", "a": "Host h.s\n Port 2",
    },
    "asks for the final pass": {
        "config": "Include {0}/a\nHost h.s\n User u",
        "a": "Match final\nHost login1\n HostName h.s",
    },
    "final below others": {
        "config": "Host x\n Include {0}/a\nHost h.s\n User u\nHost *\n HostName h.s",
        "a": "Match final\n Port 2",
    },
    "several in a line": {"config": "Include {0}/a {0}/none {0}/b", "a": "Port 1", "b": "User u"},
    "in quotes": {"config": 'Include "{0}/a b"', "a b": "Port 1"},
    "broken below others": {"config": "Host x\n Include {0}/a", "a": "Port many"},
    "open to all": {"config": "Include {0}/open", "open": "Port 1"},
    "open below others": {"config": "Host x\n Include {0}/open", "open": "Port 1"},
    "round and round": {"config": "Include {0}/.ssh/config"},
    "a directory": {"config": "Include {0}/d\nPort 2", "d/x": "Port 1"},
}  # fmt: skip


@pytest.mark.parametrize("case", INCLUDES)
def test_includes_are_those_of_ssh(
    case: str, tmp_path: Path, defaults: Mapping[str, list[str]]
) -> None:
    files = {name: text.format(tmp_path) for name, text in INCLUDES[case].items()}
    text = files.pop("config")
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n")
        path.chmod(0o666 if name == "open" else 0o644)
    theirs = said_by_ssh(write_config(tmp_path, text))
    if theirs is None:
        with pytest.raises((InvalidSettings, UnsupportedSshConfig)):
            resolve(tmp_path, text)
        return
    assert disagreements(read(tmp_path, text), theirs, defaults) == {}


# --- chance -------------------------------------------------------------------------------

SLOWLY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATTERN = st.text("ab.*?!", min_size=1, max_size=6).filter(lambda text: set(text) != {"!"})


@SLOWLY
@given(
    name=st.text("ab.", min_size=1, max_size=5),
    hosts=st.lists(st.lists(PATTERN, min_size=1, max_size=4), min_size=20, max_size=60),
)
def test_any_pattern_matches_as_in_ssh(name: str, hosts: list[list[str]], tmp_path: Path) -> None:
    # Each block that matches leaves its number; one run of ssh judges them all.
    blocks = [f"Host {' '.join(one)}\n IdentityFile /{n}\n" for n, one in enumerate(hosts)]
    theirs = said_by_ssh(write_config(tmp_path, "".join(blocks)), alias=name)
    assert theirs is not None
    matched = {text for text in theirs["identityfile"] if text.startswith("/")}
    for number, patterns in enumerate(hosts):
        assert is_matching_any(name, patterns, is_case_kept=True) == (f"/{number}" in matched)


@SLOWLY
@given(value=st.text("ab=#'\"\\ \t", min_size=1, max_size=12))
def test_any_value_is_cut_as_ssh_cuts_it(value: str, tmp_path: Path) -> None:
    theirs = said_by_ssh(write_config(tmp_path, f"User {value}"))
    if theirs is None:
        with pytest.raises(InvalidSettings):
            read(tmp_path, f"User {value}")
    else:
        assert read(tmp_path, f"User {value}").values.get("user", [ME]) == theirs["user"]


@SLOWLY
@given(value=st.text('ab=#" \t,*', min_size=1, max_size=12))
def test_any_criterion_is_cut_as_ssh_cuts_it(value: str, tmp_path: Path) -> None:
    text = f"User ab\nMatch user {value}\n Port 23"
    theirs = said_by_ssh(write_config(tmp_path, text))
    try:
        ours = read(tmp_path, text)
    except UnsupportedSshConfig:
        pass  # depends on the version
    except InvalidSettings:
        assert theirs is None
    else:
        assert theirs is not None
        assert [ours.first("port", "22")] == theirs["port"]


# --- paths --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/k/%h", "/k/%n-%p-%r", "/k/%u", "/k/%l/%L", "/k/%i%%", "/k/%C", "/k/%k", "%d/x", "~/x",
     "/k/${SSB_TEST}/%h", "${SSB_TEST}%p", "/k/$SSB_TEST", "/k/${SSB_NOT_SET}", "/k/%j", "/k/%x",
     "/k/%", "/k/${SSB_TEST"],
)  # fmt: skip
@pytest.mark.parametrize("alias", ["", "HostKeyAlias Heads\n"])
def test_paths_of_identities_are_those_of_ssh(
    path: str, alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSB_TEST", "value")
    home = us_home()
    text = f"{alias}HostName H.Site\nPort 23\nIdentityFile {path}\nProxyCommand false"
    config = write_config(tmp_path, text)
    done = subprocess.run(
        ["ssh", "-v", "-F", str(config), "bob@Login1"], capture_output=True, text=True, check=False
    )
    shown = [line.split()[3] for line in done.stderr.splitlines() if "identity file" in line]
    try:
        target = resolve_target(
            "bob@Login1",
            ssh_config=str(config),
            local_user=ME,
            home=home,
            environment={"SSB_TEST": "value"},
        )
    except (InvalidSettings, UnsupportedSshConfig):
        assert shown == []
    else:
        assert target.identities == (shown[0],)


def us_home() -> str:
    return str(Path(f"~{ME}").expanduser())


# --- the way there ------------------------------------------------------------------------

WAYS = {
    "one": "Host login1\n ProxyJump gate",
    "with user and port": "Host login1\n ProxyJump ann@gate:2200",
    "as a URI": "Host login1\n ProxyJump ssh://ann@gate:2200",
    "three": "Host login1\n ProxyJump a,b,c",
    "each by its own config": "Host a b\n User guest\nHost b\n HostName B.site\n Port 23\n"
    "Host login1\n ProxyJump a,b",
    "the target's user is not theirs": "Host login1\n User ann\n Port 2\n ProxyJump gate",
    "the gate has a gate": "Host login1\n ProxyJump b\nHost b\n ProxyJump a\nHost a\n Port 3",
    "only the first may have gates": "Host login1\n ProxyJump a,b\nHost b\n ProxyJump x\n"
    "Host a\n ProxyJump o",
    "the gate has none": "Host gate\n ProxyJump none\nHost *\n ProxyJump gate",
    "the same gate for all sites": "Host gate\n User g\n ProxyJump none\nHost log*\n"
    " ProxyJump gate",
    "by tokens": "Host login1\n HostName h.site\n ProxyJump %r@gate.%h",
    "an address": "Host login1\n ProxyJump [::1]:23,127.1",
}


def way_of_ssh(config: Path, *options: str, alias: str) -> list[str]:
    """The jump hosts, nearest first: ssh runs itself for the last, with -J for the others."""
    said = said_by_ssh(config, *options, alias=alias)
    assert said is not None
    here = f"{said['user'][0]}@{said['hostname'][0]}:{said['port'][0]}"
    here = here if "::" not in said["hostname"][0] else here.replace("::1", "[::1]")
    if "proxyjump" not in said:
        return [here]
    *before, last = said["proxyjump"][0].replace("%r", said["user"][0]).split(",")
    last = last.replace("%h", said["hostname"][0])
    user, _, place = last.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.lstrip(":")
    elif ":" in place:
        host, _, port = place.partition(":")
    passed = [*(["-l", user] if user else []), *(["-p", port] if port else [])]
    passed += ["-J", ",".join(before)] if before else []
    return [*way_of_ssh(config, *passed, alias=host), here]


@pytest.mark.parametrize("case", WAYS)
def test_the_way_leads_through_the_hosts_of_ssh(case: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, WAYS[case])
    target = resolve_target("login1", ssh_config=str(config), local_user=ME, home=str(tmp_path))
    ours = [host.destination for host in (*target.hops, target)]
    assert ours == way_of_ssh(config, alias="login1")


# --- whose files these are ----------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o644, 0o600, 0o444])
def test_the_users_own_file_must_not_be_open_to_others(mode: int, tmp_path: Path) -> None:
    write_config(tmp_path, "Port 23").chmod(mode)
    if mode & 0o022:
        with pytest.raises(InvalidSettings, match="chmod go-w"):
            resolve_target("h", local_user=ME, home=str(tmp_path))
    else:
        assert resolve_target("h", local_user=ME, home=str(tmp_path)).port == 23


def test_nor_a_file_that_it_includes(tmp_path: Path) -> None:
    write_config(tmp_path, "Include more")
    more = tmp_path / ".ssh" / "more"
    more.write_text("Port 23\n")
    more.chmod(0o664)
    with pytest.raises(InvalidSettings, match=r"\.ssh/more"):
        resolve_target("h", local_user=ME, home=str(tmp_path))


def test_nor_one_that_a_named_file_includes(tmp_path: Path) -> None:
    more = tmp_path / "more"
    path = write_config(tmp_path, f"Include {more}")
    more.write_text("Port 23\n")
    more.chmod(0o666)
    assert said_by_ssh(path) is None
    with pytest.raises(InvalidSettings, match="chmod go-w"):
        resolve_target("h", ssh_config=str(path), local_user=ME, home=str(tmp_path))


def test_nor_belong_to_somebody_else(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a file away needs root")
    os.chown(write_config(tmp_path, "Port 23"), 12345, -1)
    with pytest.raises(InvalidSettings, match="somebody else"):
        resolve_target("h", local_user=ME, home=str(tmp_path))


def test_a_file_that_was_named_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_config(tmp_path, "Port 23")
    path.chmod(0o666)
    assert said_by_ssh(path) is not None
    assert read(tmp_path, "Port 23").port == 23


def test_none_is_no_file(tmp_path: Path) -> None:
    write_config(tmp_path, "Port 23")
    target = resolve_target("h", ssh_config="none", local_user=ME, home=str(tmp_path))
    assert target.port == 22
