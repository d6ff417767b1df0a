"""Starts the server on the head and waits for its ready line.

The far half goes into the background by itself and answers when it serves, so there is
nothing to poll: the command's end is the answer.  Launching is safe at any time; where a
server of this user already runs, the answer is that one's beacon.
"""

from __future__ import annotations

from ..deadline import Deadline
from ..errors import LaunchFailed
from ..protocol.beacon import Beacon, Credentials, find_ready_line
from ..stages import Journey
from .host import Answer, Host
from .noise import explain, noise_of
from .plan import Launch
from .script import COMMAND, compose, words

__all__ = ["launch"]

_COMPLAINT = "smartsim-bridge: "  # how the server's own error line begins


def launch(
    host: Host,
    step: Launch,
    *,
    nonce: str,
    prelude: str = "",
    deadline: Deadline,
    journey: Journey,
) -> tuple[Beacon, Credentials | None]:
    """The running server.  Raises LaunchFailed with what it said instead of being ready."""
    with journey.stage("launch") as note:
        answer = host.execute(COMMAND, stdin=_script(step, nonce, prelude), deadline=deadline)
        beacon, credentials = _ready(answer, nonce, host.target.spelled)
        note.detail = f"pid {beacon.pid}, Python {beacon.python}"
    return beacon, credentials


def _script(step: Launch, nonce: str, prelude: str) -> bytes:
    body = f"start() {{\n    cd\n    exec {words(_arguments(step, nonce))}\n}}\n"
    return compose("start", body=body, prelude=prelude)


def _arguments(step: Launch, nonce: str) -> list[str]:
    """Everybody on the head can read these, so nothing in them is secret."""
    arguments = [step.python, step.path, "serve", "--detach", "--nonce", nonce]
    for address in step.addresses:
        arguments += ["--addr", address]
    return [*arguments, "--port", str(step.port), "--state-dir", step.state_dir]


def _ready(answer: Answer, nonce: str, spelled: str) -> tuple[Beacon, Credentials | None]:
    try:
        found = find_ready_line(answer.stdout.decode("utf-8", "replace"), nonce)
    except ValueError as broken:
        raise _failed(f"The server's ready line is broken: {broken}", answer, spelled) from None
    if found is None:
        raise _failed(_complaint(answer), answer, spelled)
    return found


def _complaint(answer: Answer) -> str:
    """The server's own words, where it got so far as to have some."""
    for line in reversed(answer.stderr.decode("utf-8", "replace").splitlines()):
        _, ours, complaint = line.partition(_COMPLAINT)
        if ours:
            return f"The server did not start: {complaint.strip()}"
    ended = "without a status" if answer.status is None else f"with status {answer.status}"
    return f"The server ended {ended} before it was ready"


def _failed(what: str, answer: Answer, spelled: str) -> LaunchFailed:
    noise = noise_of(answer)
    return LaunchFailed(what, host=spelled, step="launch", advice=explain(noise), noise=noise)
