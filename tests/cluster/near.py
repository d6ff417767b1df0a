"""Runs inside a host, as a user: connects a bridge, runs commands over it, says what came of it.

A request in JSON on standard input, an answer in JSON as the last line of standard output.
near_side.py is the other half.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import asdict
from typing import Any

from smartsim_bridge import CommandServerError, init_command_server


class Answers:
    """Answers each prompt by the first line that has a word of it; keeps what it was asked."""

    def __init__(self, answers: list[list[str]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def __call__(self, prompt: str, secret: bool) -> str:
        self.asked.append(prompt)
        assert secret or not re.search("PIN|assword", prompt), prompt
        for part, answer in self._answers:
            if part in prompt:
                return answer
        raise EOFError(f"nothing to answer {prompt!r} with")


def connect(request: dict[str, Any]) -> dict[str, Any]:
    answers = Answers(request["answers"])
    outcome: dict[str, Any] = {"status": None, "completed": [], "error": None, "seconds": 0.0}
    began = time.monotonic()
    try:
        with init_command_server(ask=answers, **request["keywords"]) as bridge:
            outcome["seconds"] = time.monotonic() - began
            outcome["status"] = _plain(bridge.status())
            outcome["completed"] = [_completed(bridge.run(args)) for args in request["run"]]
    except CommandServerError as error:
        outcome["seconds"] = outcome["seconds"] or time.monotonic() - began
        outcome["error"] = {
            "kind": type(error).__name__,
            **{name: getattr(error, name) for name in ("what", "host", "step", "advice")},
            "text": str(error),
        }
    outcome["asked"] = answers.asked
    return outcome


def _plain(status: Any) -> dict[str, Any]:
    return asdict(status)


def _completed(done: Any) -> dict[str, Any]:
    names = ("args", "returncode", "stdout", "stderr")
    return {name: getattr(done, name) for name in names}


if __name__ == "__main__":
    answer = connect(json.load(sys.stdin))
    print()
    print(json.dumps(answer), flush=True)
    os._exit(0)
