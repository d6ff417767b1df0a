from __future__ import annotations

import pytest

from smartsim_bridge.bootstrap.noise import MAX_LINE, MAX_LINES, clean, explain
from smartsim_bridge.protocol.beacon import ready_line
from tests.bootstrap.samples import BEACON, CREDENTIALS


def test_control_characters_are_escaped() -> None:
    assert clean("a\x1b[31mred\x07\u202e") == r"  a\x1b[31mred\x07\u202e"


def test_only_the_last_lines_are_kept() -> None:
    said = clean("\n".join(f"line {number}" for number in range(100))).splitlines()

    assert said[0] == f"  ... {100 - MAX_LINES} lines before"
    assert said[-1] == "  line 99"
    assert len(said) == MAX_LINES + 1


def test_a_long_line_is_cut() -> None:
    assert len(clean("x" * 10_000)) < MAX_LINE + 10


def test_empty_lines_are_left_out() -> None:
    assert clean("\n\n a \n\n\tb\n") == "  a\n  b"


def test_no_key_gets_into_an_error_message() -> None:
    text = f"motd\n{ready_line('nonce', BEACON, CREDENTIALS)}\n{CREDENTIALS.to_json()}\n"

    assert clean(text) == "  motd"


def test_bytes_that_are_no_text_are_named() -> None:
    assert clean(b"out\xff".decode("utf-8", "surrogateescape")) == "  out\\xff"


def test_a_flood_is_looked_at_from_its_end() -> None:
    said = clean("x" * 10_000_000 + "\nthe end\n")

    assert said.endswith("  the end")
    assert len(said) < 2 * MAX_LINE


@pytest.mark.parametrize(
    ("noise", "advice"),
    [
        ("  write: No space left on device", "disk is full"),
        ("  Disk quota exceeded", "quota"),
        ("  sh: fork: Resource temporarily unavailable", "too many processes"),
    ],
)
def test_known_sayings_are_explained(noise: str, advice: str) -> None:
    assert advice in (explain(noise) or "")


@pytest.mark.parametrize("noise", ["  write: No space left on device", "  Disk quota exceeded"])
def test_a_full_disk_is_answered_with_the_variable_that_moves_the_state(noise: str) -> None:
    advice = explain(noise) or ""
    assert "set SMARTSIM_BRIDGE_STATE_DIR" in advice
    assert "state_dir=" not in advice


def test_unknown_sayings_are_not() -> None:
    assert explain("  Have a nice day") is None
