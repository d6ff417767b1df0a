from __future__ import annotations

import pytest

from smartsim_bridge.client.text import decode, encode


def test_text_is_utf8_both_ways() -> None:
    assert encode("héé") == b"h\xc3\xa9\xc3\xa9"
    assert decode(b"h\xc3\xa9\xc3\xa9") == "héé"


def test_a_stray_byte_is_replaced_and_does_not_raise() -> None:
    assert decode(b"job \xff 17") == "job \N{REPLACEMENT CHARACTER} 17"


def test_another_encoding_and_its_errors_are_obeyed() -> None:
    assert decode(b"\xe9", "latin-1") == "é"
    assert encode("é", "latin-1") == b"\xe9"
    with pytest.raises(UnicodeDecodeError):
        decode(b"\xff", "utf-8", "strict")


def test_newlines_are_universal() -> None:
    assert decode(b"a\r\nb\rc\n") == "a\nb\nc\n"


def test_nothing_stays_nothing() -> None:
    assert encode(None) is None
    assert decode(None) is None


def test_bytes_pass_as_they_are() -> None:
    assert encode(b"\xff\r\n") == b"\xff\r\n"


def test_undecodable_names_of_files_come_back_as_the_bytes_they_were() -> None:
    assert encode("a\udcff") == b"a\xff"
