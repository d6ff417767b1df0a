from __future__ import annotations

from dataclasses import replace

import pytest

from smartsim_bridge.bootstrap.launch import launch
from smartsim_bridge.bootstrap.plan import Launch
from smartsim_bridge.bootstrap.script import quote
from smartsim_bridge.errors import LaunchFailed
from smartsim_bridge.protocol.beacon import Beacon, Credentials, found_line, ready_line
from smartsim_bridge.stages import Journey
from tests.bootstrap.samples import BEACON, CREDENTIALS, NONCE, Head

READY = f"echo {quote(ready_line(NONCE, BEACON, CREDENTIALS))}"


def start(
    head: Head, script: str, prelude: str = "", journey: Journey | None = None, **changes: object
) -> tuple[Beacon, Credentials | None]:
    """Launches with a Python that runs `script`."""
    step = Launch(
        python=head.add_program("python3", script),
        path=f"{head.state}/far/far.pyz",
        addresses=("127.0.0.1",),
        port=0,
        state_dir=str(head.state),
    )
    whole = replace(step, **changes)  # type: ignore[arg-type]
    with head.shell(prelude=prelude) as shell:
        return launch(shell, whole, journey=journey or Journey("me@login1"))[:2]


def test_the_ready_line_gives_beacon_and_credentials(head: Head) -> None:
    assert start(head, READY) == (BEACON, CREDENTIALS)


def test_a_server_without_zmq_has_no_credentials(head: Head) -> None:
    script = f"echo {quote(ready_line(NONCE, replace(BEACON, endpoints=()), None))}"

    assert start(head, script)[1] is None


def test_noise_around_the_ready_line_changes_nothing(head: Head) -> None:
    stale = ready_line("older", replace(BEACON, pid=1), CREDENTIALS)
    script = f"echo {quote(stale)}; printf 'motd'; {READY}; echo bye; echo warning >&2"

    assert start(head, script)[0] == BEACON


@pytest.mark.parametrize(
    ("said", "started"), [("motd", True), (found_line(NONCE), False), (found_line("other"), True)]
)
def test_a_server_that_was_found_was_not_started(head: Head, said: str, started: bool) -> None:
    python = head.add_program("python3", f"echo {quote(said)}; {READY}")
    step = Launch(python, f"{head.state}/far/far.pyz", ("127.0.0.1",), 0, str(head.state))
    with head.shell() as shell:
        assert launch(shell, step, journey=Journey("me@login1"))[2] is started


def test_the_command_line_is_as_agreed(head: Head) -> None:
    start(
        head,
        f'printf "%s\\n" "$@" >"$HOME/argv"; pwd >"$HOME/pwd"; {READY}',
        addresses=("127.0.0.1", "10.9.8.7"),
        port=5555,
        state_dir="/it's $HOME",
    )
    assert (head.home / "argv").read_text().splitlines() == [
        f"{head.state}/far/far.pyz",
        *("serve", "--detach", "--nonce", NONCE),
        *("--addr", "127.0.0.1", "--addr", "10.9.8.7", "--port", "5555"),
        *("--state-dir", "/it's $HOME"),
    ]
    assert (head.home / "pwd").read_text().strip() == str(head.home)


def test_the_prelude_reaches_the_server(head: Head) -> None:
    script = f'[ "$LOADED" = yes ] && {READY}'

    assert start(head, script, prelude="echo loading; export LOADED=yes")[0] == BEACON


def test_the_servers_own_complaint_is_the_message(head: Head) -> None:
    with pytest.raises(LaunchFailed) as raised:
        start(head, "echo warning >&2; echo 'smartsim-bridge: port 5555 is taken' >&2; exit 1")

    assert str(raised.value) == (
        "The server did not start: port 5555 is taken [host me@login1, step launch]. "
        "The server did not come up: see what it said, and "
        "`smartsim-bridge logs --addr HOST`.\n"
        "The host said:\n"
        "  warning\n"
        "  smartsim-bridge: port 5555 is taken"
    )


def test_a_traceback_is_quoted(head: Head) -> None:
    with pytest.raises(LaunchFailed, match="ended with status 1 before it was ready") as raised:
        start(head, "echo 'ImportError: no module' >&2; exit 1")

    assert "ImportError: no module" in raised.value.noise


def test_a_ready_line_of_another_launch_does_not_count(head: Head) -> None:
    script = f"echo {quote(ready_line('other', BEACON, CREDENTIALS))}"

    with pytest.raises(LaunchFailed, match="with status 0 before it was ready"):
        start(head, script)


def test_a_broken_ready_line_shows_no_key(head: Head) -> None:
    with pytest.raises(LaunchFailed, match="ready line is broken") as raised:
        start(head, f"echo {quote(ready_line(NONCE, BEACON, CREDENTIALS)[:-3])}")

    assert CREDENTIALS.client_secret not in str(raised.value)


def test_the_stage_tells_the_process(head: Head) -> None:
    journey = Journey("me@login1")
    start(head, READY, journey=journey)

    assert [(stage.name, stage.failed) for stage in journey.stages] == [("launch", False)]
    assert "pid 4242" in journey.stages[0].detail
