from __future__ import annotations

import pytest

from smartsim_bridge.client.listing import CommandInfo
from smartsim_bridge.protocol.messages import (
    ENDED,
    EXITED,
    FAILED,
    RUNNING,
    UNKNOWN,
    WAITING,
    Entry,
)


def test_every_word_of_the_server_is_there() -> None:
    entry = Entry(
        request=8,
        command="c" * 32,
        argv=("sbatch", "job.sh"),
        state=ENDED,
        pid=17,
        code=3,
        signal=None,
        asked=1.5,
        ended=2.5,
        keep=True,
        followed=True,
        stdout=5,
        stderr=6,
        note="so it is",
    )
    told = dict(vars(entry))
    assert told.pop("request") == 8
    assert told.pop("signal") is None
    told["id"], told["returncode"] = told.pop("command"), told.pop("code")
    assert vars(CommandInfo.of(entry)) == told


@pytest.mark.parametrize(
    ("code", "number", "returncode"),
    [(0, None, 0), (7, None, 7), (None, 9, -9), (None, None, None)],
)
def test_exit_status_is_told_as_subprocess_does(
    code: int | None, number: int | None, returncode: int | None
) -> None:
    info = CommandInfo.of(Entry(1, "c", ("true",), ENDED, code=code, signal=number))
    assert info.returncode == returncode


@pytest.mark.parametrize(
    ("state", "is_over"),
    [
        (WAITING, False),
        (RUNNING, False),
        (EXITED, False),
        (ENDED, True),
        (FAILED, True),
        (UNKNOWN, True),
    ],
)
def test_over_is_what_nothing_more_can_come_of(state: str, is_over: bool) -> None:
    assert CommandInfo.of(Entry(1, "c", ("true",), state)).is_over == is_over
