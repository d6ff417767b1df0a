from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from smartsim_bridge.ssh.keys import (
    KeyUnusable,
    Opened,
    PassphraseNeeded,
    PassphraseWrong,
    candidates,
    public_blob,
)
from smartsim_bridge.ssh.target import Target
from tests.support.sshd import make_key

pytestmark = pytest.mark.usefixtures("needs_sshd")

KINDS = ("ed25519", "ecdsa", "rsa")


def target(*identities: Path) -> Target:
    return Target(
        "h", "h", "h", 22, "me", identities=tuple(map(str, identities)), identity_agent="none"
    )


def labels(*identities: Path) -> list[str]:
    with candidates(target(*identities), {}) as found:
        return [candidate.label for candidate in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passphrase", ["", "sesame"])
def test_the_public_key_is_read_without_the_passphrase(
    kind: str, passphrase: str, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", kind, passphrase)
    from_pub = public_blob(str(key))
    Path(f"{key}.pub").unlink()
    assert public_blob(str(key)) == from_pub is not None


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_pem_key_needs_its_pub_file_to_be_known(kind: str, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", kind, "sesame", options=["-m", "PEM"])
    assert public_blob(str(key)) is not None
    Path(f"{key}.pub").unlink()
    assert public_blob(str(key)) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [[], ["-m", "PEM"]])
def test_a_locked_key_opens_with_its_passphrase_only(
    kind: str, options: list[str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", kind, "sesame", options=options)
    with candidates(target(key), {}) as found:
        [candidate] = found
    assert candidate.is_locked
    with pytest.raises(PassphraseWrong, match="wrong passphrase"):
        candidate.load(lambda _prompt, _secret: "wrong")
    with pytest.raises(KeyUnusable, match="no passphrase was given"):
        candidate.load(lambda _prompt, _secret: "")
    with pytest.raises(PassphraseNeeded):
        candidate.load(None)
    assert candidate.load(lambda _prompt, _secret: "sesame").can_sign()


def test_a_key_that_was_opened_on_the_way_is_not_asked_about_again(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", passphrase="sesame")
    _certify(tmp_path, key)
    prompts: list[str] = []

    def ask(prompt: str, _secret: bool) -> str:
        prompts.append(prompt)
        return "sesame"

    opened: Opened = {}
    for _hop in range(2):
        with candidates(target(key), opened) as found:
            certified, plain = (candidate.load(ask) for candidate in found)
        assert certified.public_blob is not None
        assert plain.public_blob is None
    assert len(prompts) == 1
    assert "sesame" not in repr(opened)


@pytest.mark.parametrize("content", ["", "x", "ssh-ed25519", "ssh-rsa {blob}", "ssh-rsa /////w=="])
def test_a_pub_file_that_is_of_no_use_is_passed_over(content: str, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", passphrase="sesame")
    before, pub = public_blob(str(key)), Path(f"{key}.pub")
    assert before is not None
    pub.write_text(content.format(blob=pub.read_text().split()[1]))
    assert public_blob(str(key)) == before


def test_missing_files_are_passed_over_and_others_keep_their_order(tmp_path: Path) -> None:
    two, one = make_key(tmp_path / "two"), make_key(tmp_path / "one")
    assert labels(tmp_path / "none", two, tmp_path, one) == [str(two), str(one)]


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff" * 100, b"-----BEGIN RSA PRIVATE"])
def test_a_file_that_is_no_key_says_so_when_its_turn_comes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with candidates(target(path), {}) as found:
        [candidate] = found
    assert not candidate.is_locked
    with pytest.raises(KeyUnusable, match=str(path)):
        candidate.load(None)


def test_a_certificate_goes_before_its_key(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    _certify(tmp_path, key)
    assert labels(key) == [f"{key}-cert.pub", str(key)]
    with candidates(target(key), {}) as found:
        public = next(found).load(None).public_blob
    assert public is not None
    assert public.key_type == "ssh-ed25519-cert-v01@openssh.com"


def _certify(tmp_path: Path, key: Path) -> None:
    authority = make_key(tmp_path / "ca")
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "id", "-n", "me", f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_broken_certificate_leaves_the_key(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    Path(f"{key}-cert.pub").write_text("nonsense\n")
    with candidates(target(key), {}) as found:
        first, second = found
    with pytest.raises(KeyUnusable, match="no certificate"):
        first.load(None)
    assert second.load(None).can_sign()


def test_candidates_show_no_secret(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    with candidates(target(key), {}) as found:
        assert "PRIVATE" not in repr(list(found))
