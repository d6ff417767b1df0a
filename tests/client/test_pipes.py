"""Streams as files: how they are buffered, closed and collected."""

from __future__ import annotations

import gc
import io

import pytest

from smartsim_bridge import Bridge


def test_what_was_not_flushed_is_sent_when_the_file_is_collected(bridge: Bridge) -> None:
    command = bridge.popen(["cat"])
    assert command.stdin is not None
    command.stdin.write("unflushed")
    command.stdin = None
    gc.collect()
    assert command.stdout is not None
    assert command.stdout.read() == "unflushed"


def test_lines_of_any_length_are_lines(bridge: Bridge) -> None:
    script = "for i in 1 3000000; do head -c $i /dev/zero | tr '\\0' x; echo; done; printf end"
    with bridge.popen(["sh", "-c", script]) as command:
        assert command.stdout is not None
        assert [len(line) for line in command.stdout] == [2, 3000001, 3]


def test_another_encoding_is_obeyed(bridge: Bridge) -> None:
    with bridge.popen(["cat"], encoding="latin-1") as command:
        assert command.stdin is not None
        assert command.stdout is not None
        command.stdin.write("é")
        command.stdin.close()
        assert command.stdout.read() == "é"


def test_a_stray_byte_does_not_raise(bridge: Bridge) -> None:
    with bridge.popen(["printf", r"a\377b\n"]) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "a\N{REPLACEMENT CHARACTER}b\n"


def test_files_know_what_they_can(bridge: Bridge) -> None:
    with bridge.popen(["cat"], text=False) as command:
        stdin, stdout = command.stdin, command.stdout
        assert stdin is not None
        assert stdout is not None
        assert (stdin.writable(), stdin.readable()) == (True, False)
        assert (stdout.writable(), stdout.readable()) == (False, True)
        assert not stdout.seekable()
        with pytest.raises(io.UnsupportedOperation):
            stdin.read()
        with pytest.raises(io.UnsupportedOperation):
            stdout.fileno()


def test_reading_after_the_end_gives_nothing(bridge: Bridge) -> None:
    with bridge.popen(["echo", "all"]) as command:
        assert command.stdout is not None
        assert [command.stdout.read() for _ in range(3)] == ["all\n", "", ""]


def test_a_closed_file_says_so(bridge: Bridge) -> None:
    with bridge.popen(["cat"]) as command:
        assert command.stdin is not None
        command.stdin.close()
        command.stdin.close()
        with pytest.raises(ValueError, match="closed"):
            command.stdin.write("x")
