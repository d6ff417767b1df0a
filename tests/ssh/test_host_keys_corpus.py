"""Verdicts on a host that shows certificates, beside those of ssh with the same files.

Where a line is for OpenSSH alone we say so before anything is sent; each such case also
tells what ssh says there, which plain keys would not have told.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smartsim_bridge.errors import (
    HostKeyChanged,
    HostKeyRevoked,
    HostKeyUnknown,
    UnsupportedSshConfig,
)
from smartsim_bridge.ssh.host_keys import algorithms_in_order
from smartsim_bridge.ssh.known_hosts import new_line, read_known_keys
from smartsim_bridge.ssh.suitability import refuse_what_paramiko_cannot, weak_ones_wanted
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd, make_key
from tests.support.users import User

pytestmark = pytest.mark.usefixtures("needs_sshd")


@dataclass(frozen=True)
class Case:
    """What stands in the files, and what we say; ssh must say the same, or `by_ssh`."""

    user_file: str
    ours: str
    config: str = ""
    common_file: str = ""
    by_ssh: str = ""


# R, E, D: the keys of the host; X, Y: other ones of type D and R; CA: the authority that
# signed R, E and D; OTHER-CA: one that did not.
CASES = {
    "plain key beside a certificate": Case("NAME D", "accepted"),
    "nothing at all": Case("", "unknown"),
    "changed": Case("NAME X", "changed"),
    "only a later type": Case("NAME R", "accepted"),
    "first type known, order as it is": Case("NAME D\nNAME Y", "accepted"),
    "first type wrong, later one right": Case("NAME X\nNAME R", "changed"),
    "right key for two names": Case("NAME,other D", "accepted"),
    "in the system's file": Case("", "accepted", common_file="NAME D"),
    "changed in the system's file": Case("", "changed", common_file="NAME X"),
    "right in one, wrong in the other": Case("NAME D", "accepted", common_file="NAME X"),
    "wrong in one, right in the other": Case("NAME X", "accepted", common_file="NAME D"),
    "in the second file of the user": Case(
        "", "accepted", "UserKnownHostsFile none.such COMMON", common_file="NAME D"
    ),
    "alias": Case("heads D", "accepted", "HostKeyAlias heads"),
    "alias in capitals": Case("heads D", "accepted", "HostKeyAlias HEADS"),
    "alias does not know the name": Case("NAME D", "unknown", "HostKeyAlias heads"),
    "alias with a port is a name": Case("[heads]:PORT D", "unknown", "HostKeyAlias heads"),
    "alias changed": Case("heads X\nNAME D", "changed", "HostKeyAlias heads"),
    "pattern over the alias": Case("head* D", "accepted", "HostKeyAlias heads"),
    "wildcard port": Case("[127.0.0.1]:* D", "accepted"),
    "question marks": Case("[127.?.?.1]:PORT D", "accepted"),
    "wildcard without brackets": Case("127.* D", "accepted"),
    "everything": Case("* D", "accepted"),
    "everything but this": Case("*,!NAME,!127.0.0.1 D", "unknown"),
    "port vetoed, bare name not": Case("*,!NAME D", "accepted"),
    "bare name vetoed": Case("*,!127.0.0.1 D", "accepted"),
    "bare name wrong": Case("127.0.0.1 X", "unknown"),
    "bare name wrong, port right": Case("127.0.0.1 X\nNAME D", "accepted"),
    "carriage returns": Case("NAME D\r", "accepted"),
    "carriage returns behind comments": Case("NAME D me@here\r", "accepted"),
    "tabs": Case("NAME\tD", "accepted"),
    "indented": Case("  NAME D", "accepted"),
    "comment at the end": Case("NAME D # comment", "accepted"),
    "comment instead": Case("# NAME D", "unknown"),
    "base64 with rubbish": Case("NAME ssh-ed25519 !!!!", "unknown"),
    "base64 too short": Case("NAME ssh-ed25519 AAAA", "unknown"),
    "no base64": Case("NAME ssh-ed25519", "unknown"),
    "key without its type": Case("NAME KEY-D", "unknown"),
    "type of another key": Case("NAME ssh-rsa KEY-D", "unknown"),
    "unheard-of type": Case("NAME ssh-moon KEY-D", "unknown"),
    "old numbers": Case("NAME 1024 35 1234567\nNAME D", "accepted"),
    "unheard-of marker": Case("@trusted NAME D", "unknown"),
    "two markers": Case("@revoked @revoked NAME D\nNAME D", "accepted"),
    "marker alone": Case("@revoked\nNAME D", "accepted"),
    "marker of another host": Case("@revoked elsewhere D\nNAME D", "accepted"),
    "authority of others": Case("@cert-authority *.org OTHER-CA\nNAME D", "accepted"),
    "the key as an authority's, without a marker": Case("NAME CA", "changed"),
    "NUL in a line": Case("a\0NAME D\nNAME D", "accepted"),
    "no UTF-8": Case("\udcff\udcfe D\nNAME D", "accepted"),
    "order of the config": Case(
        "NAME E", "changed", "HostKeyAlgorithms ssh-ed25519,ecdsa-sha2-nistp256"
    ),
    "only what the config has": Case("NAME R", "changed", "HostKeyAlgorithms ssh-ed25519"),
    "one type less": Case("NAME R", "accepted", "HostKeyAlgorithms -ssh-ed25519*"),
    "to the front": Case("NAME D\nNAME E", "accepted", "HostKeyAlgorithms ^ecdsa-sha2-*"),
    "to the front, unknown": Case("NAME D", "changed", "HostKeyAlgorithms ^rsa-sha2-512"),
    # for OpenSSH
    "authority": Case("@cert-authority NAME CA", "cannot", by_ssh="accepted"),
    "authority for a pattern": Case("@cert-authority *127* CA", "cannot", by_ssh="accepted"),
    "authority for the bare name": Case(
        "@cert-authority 127.0.0.1 CA", "cannot", by_ssh="accepted"
    ),
    "authority in the system's file": Case(
        "", "cannot", common_file="@cert-authority * CA", by_ssh="accepted"
    ),
    "authority beside a changed key": Case(
        "NAME X\n@cert-authority * CA", "cannot", by_ssh="accepted"
    ),
    "authority of somebody else": Case("@cert-authority * OTHER-CA", "cannot", by_ssh="unknown"),
    "authority revoked": Case("NAME D\n@revoked * CA", "cannot", by_ssh="revoked"),
    "key revoked": Case("NAME D\n@revoked NAME D", "cannot", by_ssh="revoked"),
    "revocation list": Case(
        "NAME D", "cannot", "RevokedHostKeys REVOKED-D", by_ssh="revoked"
    ),
    "keys from a command": Case(
        "", "cannot", "KnownHostsCommand /bin/echo NAME D", by_ssh="accepted"
    ),
    # never laxer
    "nothing is checked": Case(
        "", "unknown", "NoHostAuthenticationForLocalhost yes", by_ssh="accepted"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory, found = tmp_path_factory.mktemp("keys"), {}
    for name, kind in (("X", "ed25519"), ("Y", "rsa"), ("CA", "ed25519"), ("OTHER-CA", "ed25519")):
        path = make_key(directory / name, kind)
        found[name] = " ".join(Path(f"{path}.pub").read_text().split()[:2])
        found[f"{name} path"] = str(path)
    return found


@pytest.fixture(scope="module")
def host(head_user: User, keys: dict[str, str]) -> Iterator[Sshd]:
    with Sshd(
        head_user,
        host_key_types=("rsa", "ecdsa", "ed25519"),
        authority=Path(keys["CA path"]),
    ) as running:
        yield running


def spelled_out(text: str, host: Sshd, keys: dict[str, str], directory: Path) -> str:
    """The text with names and keys for its capitals."""
    meant = {**keys, **dict(zip("RED", host.host_key_lines))}
    revoked = directory / "revoked"
    revoked.write_text(meant["D"] + "\n")
    whole_words = re.sub(r"[^ \t\r\n]+", lambda found: meant.get(found[0], found[0]), text)
    return (
        whole_words.replace("NAME", f"[{host.host}]:{host.port}")
        .replace("KEY-D", meant["D"].split()[1])
        .replace("PORT", str(host.port))
        .replace("REVOKED-D", str(revoked))
        .replace("COMMON", str(directory / "common"))
    )


def arrange(case: Case, host: Sshd, keys: dict[str, str], directory: Path) -> Path:
    """Writes the files; returns the ssh_config."""
    for name, text in (("own", case.user_file), ("common", case.common_file)):
        spelled = spelled_out(text, host, keys, directory) + ("\n" if text else "")
        (directory / name).write_bytes(spelled.encode("utf-8", "surrogateescape"))
    config = directory / "config"
    config.write_text(
        f"{spelled_out(case.config, host, keys, directory)}\n"
        f"UserKnownHostsFile {directory}/own\n"
        f"GlobalKnownHostsFile {directory}/common\n" + host.ssh_config.read_text("utf-8")
    )
    return config


def verdict_of_ssh(config: Path) -> str:
    done = subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
         "head", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = {
        "REVOKED HOST KEY": "revoked",
        "revoked by file": "revoked",
        "HOST IDENTIFICATION HAS CHANGED": "changed",
        "host key is known for": "unknown",
    }
    verdicts = [verdict for text, verdict in said.items() if text in done.stderr]
    if done.returncode == 0:
        return "accepted"
    assert verdicts, done.stderr
    return verdicts[0]


def our_verdict(config: Path, host: Sshd, connect: Connect) -> str:
    try:
        target = host.target(ssh_config=str(config))
        refuse_what_paramiko_cannot(target)
        connect(target)
    except UnsupportedSshConfig:
        return "cannot"
    except HostKeyRevoked:
        return "revoked"
    except HostKeyChanged:
        return "changed"
    except HostKeyUnknown:
        return "unknown"
    return "accepted"


@pytest.mark.parametrize("name", CASES)
def test_verdict_is_that_of_ssh_or_left_to_it(
    name: str, host: Sshd, keys: dict[str, str], connect: Connect, tmp_path: Path
) -> None:
    case = CASES[name]
    config = arrange(case, host, keys, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert our_verdict(config, host, connect) == case.ours
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert verdict_of_ssh(config) == (case.by_ssh or case.ours)


def test_without_a_choice_an_authority_is_passed_over(
    host: Sshd, keys: dict[str, str], connect: Connect, tmp_path: Path
) -> None:
    config = arrange(Case("@cert-authority * CA", ""), host, keys, tmp_path)
    with pytest.raises(HostKeyUnknown, match="certificate authority"):
        connect(host.target(ssh_config=str(config)))


def test_accept_new_never_shortens_a_file_and_satisfies_ssh(
    host: Sshd, keys: dict[str, str], connect: Connect, tmp_path: Path
) -> None:
    text = "# mine\n@cert-authority *.org CA\nelsewhere sk-ssh-ed25519 garbage\nother X"
    config = arrange(Case(text, ""), host, keys, tmp_path)
    before = (tmp_path / "own").read_bytes()
    connect(host.target(ssh_config=str(config)), host_keys="accept-new")
    after = (tmp_path / "own").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 1
    assert verdict_of_ssh(config) == "accepted"


def test_strict_in_the_config_means_that_nobody_is_asked(
    host: Sshd, keys: dict[str, str], connect: Connect, tmp_path: Path
) -> None:
    for line in ("StrictHostKeyChecking yes", "BatchMode yes"):
        config = arrange(Case("", "", line), host, keys, tmp_path)
        with pytest.raises(HostKeyUnknown):
            connect(host.target(ssh_config=str(config)), ask=never_asked)


def test_lax_in_the_config_leaves_the_question_to_the_person(
    host: Sshd, keys: dict[str, str], connect: Connect, tmp_path: Path
) -> None:
    config = arrange(Case("", "", "StrictHostKeyChecking no"), host, keys, tmp_path)
    with pytest.raises(HostKeyUnknown):
        connect(host.target(ssh_config=str(config)), ask=lambda _prompt, _secret: "no")


def never_asked(prompt: str, secret: bool) -> str:
    raise AssertionError(f"asked {prompt!r}, {secret}")


def test_a_security_key_among_the_identities_is_for_ssh(host: Sshd, tmp_path: Path) -> None:
    identity = tmp_path / "id_sk"
    identity.write_text("private")
    identity.with_suffix(".pub").write_text("sk-ssh-ed25519@openssh.com AAAA me\n")
    with pytest.raises(UnsupportedSshConfig, match="security key"):
        refuse_what_paramiko_cannot(host.target(identity=str(identity)))


def test_algorithms_that_leave_nothing_are_refused(host: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    for line in (
        "Ciphers 3des-cbc",
        "MACs -hmac-*",
        "HostKeyAlgorithms *-cert-*",
        "KexAlgorithms x",
    ):
        config.write_text(f"{line}\n{host.ssh_config.read_text()}")
        with pytest.raises(UnsupportedSshConfig, match="leaves nothing"):
            refuse_what_paramiko_cannot(host.target(ssh_config=str(config)))


@pytest.mark.parametrize(
    ("line", "is_ours"),
    [
        ("HostKeyAlgorithms +ssh-rsa", False),
        ("PubkeyAcceptedKeyTypes +ssh-rsa", False),
        ("KexAlgorithms ^diffie-hellman-group1-sha1", False),
        ("MACs +hmac-sha2-512,hmac-sha1", False),
        ("Ciphers +aes128-ctr", True),
        ("MACs hmac-sha2-256,hmac-sha1", True),  # as systems have it for all
        ("MACs -hmac-sha1", True),
    ],
)
def test_a_weak_algorithm_that_is_added_by_name_is_for_ssh(
    line: str, is_ours: bool, host: Sshd, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(f"{line}\n{host.ssh_config.read_text()}")
    target = host.target(ssh_config=str(config))
    refuse_what_paramiko_cannot(target)
    assert (weak_ones_wanted(target) == "") is is_ours


def test_algorithms_are_taken_from_ours_and_never_added(
    host: Sshd, connect: Connect, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(f"Ciphers aes192-ctr\nMACs +hmac-md5\n{host.ssh_config.read_text()}")
    transport = connect(host.target(ssh_config=str(config)))._transport
    assert transport.local_cipher == "aes192-ctr"
    assert "hmac-md5" not in transport.preferred_macs


# --- the reader ---------------------------------------------------------------------------


NAMES = st.text("ab.*?!,|[]:2", min_size=1, max_size=8)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["a", "b.a", "[a]:2", "[b.a]:22", "ab"]),
    names=st.lists(NAMES, min_size=1, max_size=30),
)
def test_any_names_match_as_for_ssh_keygen(
    name: str, names: list[str], keys: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{one} {keys['X']}\n" for one in names))
    done = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", str(path)], capture_output=True, text=True, check=False
    )
    found = [int(line.split()[-1]) for line in done.stdout.splitlines() if line[:2] == "# "]
    assert [key.line for key in read_known_keys(name, [str(path)])] == found


def test_fifty_thousand_hashed_lines_take_less_than_a_second(host: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    blob = read_known_keys(f"[{host.host}]:{host.port}", [str(host.known_hosts)])[0].blob
    # Many hosts share a line's cost; a thousand salts are as slow to match as fifty.
    lines = [new_line(f"h{n}", "ssh-ed25519", blob, hashes_name=True) for n in range(1000)]
    path.write_text("".join(lines) * 50)
    config = tmp_path / "config"
    config.write_text(f"UserKnownHostsFile {path}\n{host.ssh_config.read_text()}")
    target = host.target(ssh_config=str(config))
    begin = time.process_time()
    assert algorithms_in_order(target, ("ssh-ed25519",)) == ("ssh-ed25519",)
    assert time.process_time() - begin < 1.0
    shutil.rmtree(tmp_path)
