"""The words of subprocess, before they are sent."""

from __future__ import annotations

import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge import Bridge
from smartsim_bridge.client.request import request, signal_number
from smartsim_bridge.protocol.codec import decode, encode
from smartsim_bridge.protocol.messages import Start


def ask(args: Any = ("true",), **words: Any) -> Start:
    fields: dict[str, Any] = {"shell": False, "cwd": None, "env": None}
    return request(args, **{**fields, **words}, caller={}, keep_env=())


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ({"shell": 1}, "shell", True),
        ({"shell": "x"}, "shell", True),
        ({"cwd": b"/tmp"}, "cwd", "/tmp"),
        ({"cwd": Path("/tmp")}, "cwd", "/tmp"),
        ({"env": {b"A": b"1"}}, "env", {"A": "1"}),
        ({"timeout": True}, "timeout", 1.0),
        ({"timeout": Fraction(1, 2)}, "timeout", 0.5),
        ({"timeout": float("inf")}, "timeout", None),
        ({"timeout": float("-inf")}, "timeout", 0.0),
        ({"timeout": -3}, "timeout", 0.0),
    ],
)
def test_what_python_would_take_can_be_said(
    words: dict[str, Any], field: str, value: object
) -> None:
    asked = ask(**words)
    assert getattr(asked, field) == value
    assert decode(encode(asked)) == asked


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ({"timeout": "5"}, TypeError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": object()}, TypeError),
        ({"cwd": 7}, TypeError),
        ({"env": {"A": 1}}, TypeError),
        ({"args": ()}, ValueError),
        ({"args": (1,)}, TypeError),
    ],
)
def test_what_cannot_be_said_is_refused_here(words: dict[str, Any], fault: type[Exception]) -> None:
    with pytest.raises(fault):
        ask(**words)


@pytest.mark.parametrize("number", [-1, 65, 2**63])
def test_no_signal_has_such_a_number(number: int) -> None:
    with pytest.raises(ValueError, match="no signal"):
        signal_number(number)
    assert signal_number(signal.SIGTERM) == 15


def test_a_wrong_word_costs_nobody_the_bridge(bridge: Bridge) -> None:
    for words in ({"timeout": "5"}, {"timeout": float("nan")}, {"input": 5}, {"cwd": 7}):
        with pytest.raises((TypeError, ValueError)):
            bridge.run(["true"], **words)
    with bridge.popen(["sleep", "600"]) as command:
        with pytest.raises(ValueError, match="no signal"):
            command.send_signal(2**63)
        command.kill()
    assert bridge.run(["echo", "still here"], timeout=float("inf")).stdout == "still here\n"
