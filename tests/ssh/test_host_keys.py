"""Our verdict on a host key, beside that of the system's ssh about the same file."""

from __future__ import annotations

import base64
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from smartsim_bridge.errors import (
    AuthenticationRequired,
    CommandServerError,
    HostKeyChanged,
    HostKeyRefused,
    HostKeyRevoked,
    HostKeyUnknown,
    InvalidSettings,
)
from smartsim_bridge.ssh.host_keys import algorithms_in_order, verify
from smartsim_bridge.ssh.known_hosts import fingerprint
from smartsim_bridge.ssh.target import Target
from tests.support.fixtures import Connect
from tests.support.sshd import Sshd, make_key
from tests.support.users import User


@dataclass(frozen=True)
class Key:
    """A made-up key."""

    name: str = "ssh-ed25519"
    seed: int = 1

    def get_name(self) -> str:
        return self.name

    def asbytes(self) -> bytes:
        parts = (self.name.encode(), bytes([self.seed]) * 32)
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    @property
    def line(self) -> str:
        return f"{self.name} {base64.b64encode(self.asbytes()).decode()}"


SHOWN = Key()
OTHER = Key(seed=2)
RSA = Key("ssh-rsa")


def target_of(tmp_path: Path, text: str = "", name: str = "h") -> Target:
    path = tmp_path / "known_hosts"
    if text:
        path.write_text(text)
    return Target(
        "h", "h", "h", 22, "me",
        host_key_name=name, known_hosts=(str(path),), new_keys_file=str(path),
    )  # fmt: skip


# --- beside ssh ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_keys(head_user: User) -> Iterator[Sshd]:
    with Sshd(head_user, host_key_types=("rsa", "ecdsa", "ed25519")) as running:
        yield running


def verdict_of_ssh(sshd: Sshd) -> str:
    done = subprocess.run(
        sshd.ssh_command("-o", "StrictHostKeyChecking=yes", "true"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return "accepted"
    said = {
        "REVOKED HOST KEY": "revoked",
        "HOST IDENTIFICATION HAS CHANGED": "changed",
        "host key is known for": "unknown",
    }
    verdicts = [verdict for text, verdict in said.items() if text in done.stderr]
    assert verdicts, done.stderr
    return verdicts[0]


def our_verdict(sshd: Sshd, connect: Connect) -> str:
    before = sshd.known_hosts.read_bytes()
    try:
        connect(sshd.target())
        return "accepted"
    except HostKeyRevoked:
        return "revoked"
    except HostKeyChanged:
        return "changed"
    except HostKeyUnknown:
        return "unknown"
    finally:
        assert sshd.known_hosts.read_bytes() == before


# R, E, D: the host's RSA, ECDSA and Ed25519 keys; X: another Ed25519 key, Y: another RSA key;
# Z: a key on a curve of which the host has none.  NAME: the host as known_hosts calls it; BARE:
# without the port.
CASES = {
    "plain line": "NAME D",
    "all of its keys": "NAME R\nNAME E\nNAME D",
    "only a key it prefers least": "NAME E",
    "only the RSA key": "NAME R",
    "list of names": "one,NAME,two D",
    "pattern": "[127.0.*]:* D",
    "pattern that vetoes": "[127.0.*]:*,!NAME D",
    "hashed": "HASHED D",
    "comment behind the key": "NAME D someone@somewhere",
    "nothing": "",
    "only other hosts": "elsewhere D",
    "another key of that type": "NAME X",
    "another key, and the right one behind": "NAME X\nNAME D",
    "another key, and the right one of another type": "NAME X\nNAME R",
    "the right one, and another of another type": "NAME D\nNAME Y",
    "revoked": "@revoked * D\nNAME D",
    "revoked behind": "NAME D\n@revoked NAME D",
    "another key revoked": "@revoked * X\nNAME D",
    "a type that the host has not": "NAME Z",
    "authority only": "@cert-authority * X",
    "authority and the key": "@cert-authority * X\nNAME D",
    "without the port": "BARE D",
    "without the port, another key": "BARE X",
    "broken lines before": "NAME ssh-ed25519 garbage\n@what NAME D\nNAME\nNAME D",
    "type that is not the key's": "NAME ssh-rsa KEY-D",
    "upper case": "LOUD D",
}


@pytest.fixture(scope="module")
def strange_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory, keys = tmp_path_factory.mktemp("strange"), {}
    for letter, options in (("X", "ed25519"), ("Y", "rsa"), ("Z", "ecdsa -b 521")):
        kind, *bits = options.split()
        make_key(directory / letter, kind, options=bits)
        keys[letter] = " ".join((directory / f"{letter}.pub").read_text().split()[:2])
    return keys


def spelled_out(case: str, sshd: Sshd, strange_keys: dict[str, str]) -> str:
    keys = {**strange_keys, **dict(zip("RED", sshd.host_key_lines))}
    name = f"[{sshd.host}]:{sshd.port}"
    names = {"NAME": name, "BARE": sshd.host, "LOUD": name.upper()}
    lines = []
    for line in CASES[case].splitlines():
        words = [names.get(word, word.replace("NAME", name)) for word in line.split(" ")]
        words = [keys.get(word, word) for word in words]
        lines.append(" ".join(words).replace("KEY-D", keys["D"].split()[1]))
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("case", CASES)
def test_verdict_is_that_of_ssh(
    case: str, three_keys: Sshd, connect: Connect, strange_keys: dict[str, str]
) -> None:
    text = spelled_out(case, three_keys, strange_keys)
    three_keys.known_hosts.write_text(text)
    if "HASHED" in text:
        name = f"[{three_keys.host}]:{three_keys.port}"
        three_keys.known_hosts.write_text(text.replace("HASHED", name))
        command = ["ssh-keygen", "-H", "-f", str(three_keys.known_hosts)]
        subprocess.run(command, check=True, capture_output=True)
    assert our_verdict(three_keys, connect) == verdict_of_ssh(three_keys)


def test_what_accept_new_wrote_satisfies_ssh(sshd: Sshd, connect: Connect) -> None:
    before = sshd.known_hosts.read_text()
    sshd.known_hosts.unlink()
    try:
        connect(sshd.target(), host_keys="accept-new")
        assert verdict_of_ssh(sshd) == "accepted"
    finally:
        sshd.known_hosts.write_text(before)


# --- by ourselves -------------------------------------------------------------------------


def test_a_known_key_is_accepted_without_a_question(tmp_path: Path) -> None:
    target = target_of(tmp_path, f"h {SHOWN.line}\n")
    assert verify(target, SHOWN, "strict", None) == fingerprint(SHOWN.asbytes())


def test_an_unknown_key_is_refused_with_its_fingerprint(tmp_path: Path) -> None:
    target = target_of(tmp_path)
    with pytest.raises(HostKeyUnknown) as caught:
        verify(target, SHOWN, "strict", None)
    assert caught.value.fingerprint == fingerprint(SHOWN.asbytes())
    assert (caught.value.host, caught.value.step) == ("me@h:22", "host key")
    assert not Path(target.known_hosts[0]).exists()


def test_an_unknown_key_is_accepted_and_written_down_when_a_person_says_yes(
    tmp_path: Path,
) -> None:
    target, prompts = target_of(tmp_path), []

    def ask(prompt: str, secret: bool) -> str:
        prompts.append((prompt, secret))
        return "yes\n"

    verify(target, SHOWN, "strict", ask)
    [(prompt, secret)] = prompts
    assert fingerprint(SHOWN.asbytes()) in prompt
    assert prompt.endswith("Continue connecting (yes/no)? ")
    assert not secret
    assert Path(target.known_hosts[0]).read_text() == f"h {SHOWN.line}\n"


@pytest.mark.parametrize("answer", ["no", "", "y", "yes please", "SHA256:x"])
def test_any_other_answer_refuses(answer: str, tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnknown):
        verify(target_of(tmp_path), SHOWN, "strict", lambda _prompt, _secret: answer)
    assert not (tmp_path / "known_hosts").exists()


@pytest.mark.parametrize("error", [AuthenticationRequired("no terminal"), EOFError(), OSError()])
def test_an_ask_that_fails_refuses(error: Exception, tmp_path: Path) -> None:
    def ask(_prompt: str, _secret: bool) -> str:
        raise error

    with pytest.raises(HostKeyUnknown):
        verify(target_of(tmp_path), SHOWN, "strict", ask)


def test_a_changed_key_names_the_line_and_both_fingerprints(tmp_path: Path) -> None:
    target = target_of(tmp_path, f"# a comment\nh {OTHER.line}\n")
    for policy in ("strict", "accept-new"):
        with pytest.raises(HostKeyChanged) as caught:
            verify(target, SHOWN, policy, lambda _prompt, _secret: "yes")
        said = str(caught.value)
        assert f"{target.known_hosts[0]}:2" in said
        assert fingerprint(SHOWN.asbytes()) in said
        assert fingerprint(OTHER.asbytes()) in said
        assert caught.value.expected == (fingerprint(OTHER.asbytes()),)


def test_a_revoked_key_is_refused_under_every_policy(tmp_path: Path) -> None:
    target = target_of(tmp_path, f"h {SHOWN.line}\n@revoked * {SHOWN.line}\n")
    for policy in ("strict", "accept-new"):
        with pytest.raises(HostKeyRevoked, match="known_hosts:2"):
            verify(target, SHOWN, policy, lambda _prompt, _secret: "yes")


def test_a_key_revoked_for_the_bare_name_is_refused_on_any_port(tmp_path: Path) -> None:
    target = replace(target_of(tmp_path, f"@revoked h {SHOWN.line}\n", "[h]:23"), port=23)
    with pytest.raises(HostKeyRevoked):
        verify(target, SHOWN, "accept-new", None)


def test_an_authority_is_mentioned_where_it_is_all_there_is(tmp_path: Path) -> None:
    target = target_of(tmp_path, f"@cert-authority * {OTHER.line}\n")
    with pytest.raises(HostKeyUnknown, match="certificate authority") as caught:
        verify(target, SHOWN, "strict", None)
    assert 'ssh="openssh"' in str(caught.value)


def test_accept_new_appends_one_line_and_touches_nothing_else(tmp_path: Path) -> None:
    text = (
        f"# mine\n@cert-authority *.x {RSA.line}\nsk ssh-sk garbage\nother {OTHER.line} a comment"
    )
    target = target_of(tmp_path, text)
    inode = Path(target.known_hosts[0]).stat().st_ino
    verify(target, SHOWN, "accept-new", None)
    assert Path(target.known_hosts[0]).read_text() == f"{text}\nh {SHOWN.line}\n"
    assert Path(target.known_hosts[0]).stat().st_ino == inode
    verify(target, SHOWN, "accept-new", None)
    assert Path(target.known_hosts[0]).read_text().count(SHOWN.line) == 1


def test_accept_new_makes_file_and_directory_private(tmp_path: Path) -> None:
    path = tmp_path / ".ssh" / "known_hosts"
    target = replace(target_of(tmp_path), known_hosts=(str(path),), new_keys_file=str(path))
    verify(target, SHOWN, "accept-new", None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_accept_new_hides_the_name_where_the_config_says_so(tmp_path: Path) -> None:
    target = replace(target_of(tmp_path), hashes_names=True)
    verify(target, SHOWN, "accept-new", None)
    assert Path(target.known_hosts[0]).read_text().startswith("|1|")
    assert verify(target, SHOWN, "strict", None)


def test_accept_new_without_a_file_accepts_and_writes_nothing(tmp_path: Path) -> None:
    target = replace(target_of(tmp_path), new_keys_file=None)
    verify(target, SHOWN, "accept-new", None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = replace(target_of(tmp_path), new_keys_file=str(tmp_path / "file" / "known_hosts"))
    with pytest.raises(HostKeyRefused, match="could not be written"):
        verify(target, SHOWN, "accept-new", None)


def test_a_line_that_has_no_room_is_not_begun(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "known_hosts"
    path.write_text("# mine, without an end of line")
    target = replace(target_of(tmp_path), new_keys_file=str(path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, before[1]))
    try:
        with pytest.raises(HostKeyRefused, match="could not be written"):
            verify(target, SHOWN, "accept-new", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "# mine, without an end of line"


def test_an_unheard_of_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="accept-new"):
        verify(target_of(tmp_path), SHOWN, "no", None)
    assert issubclass(InvalidSettings, CommandServerError)


def test_known_types_are_asked_for_first(tmp_path: Path) -> None:
    offered = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    target = target_of(tmp_path, f"h {RSA.line}\n@revoked h {OTHER.line}\n")
    assert algorithms_in_order(target, offered) == (*offered[2:], *offered[:2])
    assert algorithms_in_order(target_of(tmp_path, "x"), offered) == offered
