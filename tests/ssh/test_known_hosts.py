from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from smartsim_bridge.ssh.known_hosts import fingerprint, new_line, read_known_keys

BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))
KEY = "ssh-ed25519 " + base64.b64encode(BLOB).decode()


def found(tmp_path: Path, name: str, text: str) -> list[tuple[int, str]]:
    path = tmp_path / "known_hosts"
    path.write_text(text, encoding="utf-8")
    return [(key.line, key.marker) for key in read_known_keys(name, [str(path)])]


@pytest.mark.parametrize(
    ("names", "name", "is_match"),
    [
        ("h", "h", True),
        ("a,h,b", "h", True),
        ("H", "h", True),
        ("*.site", "login1.site", True),
        ("login?", "login1", True),
        ("*,!h", "h", False),
        ("[h]:2222", "[h]:2222", True),
        ("[h]:2222", "h", False),
        ("h", "[h]:2222", False),
        ("[*.site]:2222", "[login1.site]:2222", True),
        ("|1|bad", "h", False),
        ("|1|!!!|AAAA", "h", False),
        ("|2|AAAA|AAAA", "h", False),
    ],
)
def test_names_match_as_in_ssh(names: str, name: str, is_match: bool, tmp_path: Path) -> None:
    assert bool(found(tmp_path, name, f"{names} {KEY}\n")) is is_match


def test_hashed_names_written_by_ssh_keygen_match(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"h {KEY}\n[h]:2222 {KEY}\n")
    try:
        subprocess.run(["ssh-keygen", "-H", "-f", str(path)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")
    assert "h " not in path.read_text()
    assert [key.line for key in read_known_keys("h", [str(path)])] == [1]
    assert [key.line for key in read_known_keys("[h]:2222", [str(path)])] == [2]


def test_broken_lines_cost_nothing_but_themselves(tmp_path: Path) -> None:
    text = (
        "# h ssh-ed25519 AAAA\n"
        "\n"
        "h\n"
        "h ssh-ed25519 not-base64!\n"
        "h ssh-ed25519 AAAA\n"
        f"h ssh-rsa {KEY.split()[1]}\n"
        "h 1024 35 1234567890\n"
        f"@unheard-of h {KEY}\n"
        f"@revoked h {KEY} a comment\n"
        f"@cert-authority *.site,h {KEY}\n"
        f"\th {KEY} a comment\n"
        "\udcff\n".encode("utf-8", "surrogateescape").decode("latin-1")
    )
    assert found(tmp_path, "h", text) == [(9, "@revoked"), (10, "@cert-authority"), (11, "")]


@pytest.mark.parametrize("missing", range(4, 64, 4))
def test_a_key_that_a_full_disk_cut_short_is_not_another_key(missing: int, tmp_path: Path) -> None:
    # It is base64 all the same, and of the right type.
    assert found(tmp_path, "h", f"h {KEY[:-missing]}\n") == []


def test_missing_files_and_directories_are_passed_over(tmp_path: Path) -> None:
    assert read_known_keys("h", [str(tmp_path / "none"), str(tmp_path)]) == []


def test_place_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"\nh {KEY}\n")
    assert read_known_keys("h", [str(path)])[0].place == f"{path}:2"


@pytest.mark.parametrize("hashes_name", [True, False])
def test_a_new_line_is_read_back(hashes_name: bool, tmp_path: Path) -> None:
    line = new_line("[h]:23", "ssh-ed25519", BLOB, hashes_name=hashes_name)
    assert line.startswith("|1|") is hashes_name
    assert found(tmp_path, "[h]:23", line) == [(1, "")]


def test_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    try:
        said = subprocess.run(
            ["ssh-keygen", "-lf", str(tmp_path / "key")], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")
    assert said.stdout.split()[1] == fingerprint(BLOB)
