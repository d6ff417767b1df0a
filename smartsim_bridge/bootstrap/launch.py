"""Starts the server on the head and waits for its ready line.

The far half goes into the background by itself and answers when it serves, so there is
nothing to poll: the command's end is the answer.  Launching is safe at any time; where a
server of this user already runs, the answer is that one's beacon.
"""

from __future__ import annotations

from ..errors import LaunchFailed
from ..protocol.beacon import Beacon, Credentials, find_ready_line, says_found
from ..stages import Journey
from .noise import clean, explain
from .plan import Launch
from .script import words
from .shell import Answer, Shell

__all__ = ["launch"]

_COMPLAINT = "smartsim-bridge: "  # how the server's own error line begins


def launch(
    shell: Shell, step: Launch, *, journey: Journey
) -> tuple[Beacon, Credentials | None, bool]:
    """The running server, and whether it is this launch that started it.

    Raises LaunchFailed with what it said instead of being ready.
    """
    with journey.stage("launch") as note:
        body = f"start() {{\n    cd\n    {words(_arguments(step, shell.nonce))}\n}}\n"
        answer = shell.ask(body, "start", step="launch", failure=LaunchFailed)
        beacon, credentials = _ready(answer, shell)
        note.detail = f"pid {beacon.pid}, {beacon.python}"
    return beacon, credentials, not says_found(answer.text, shell.nonce)


def _arguments(step: Launch, nonce: str) -> list[str]:
    """Everybody on the head can read these, so nothing in them is secret."""
    arguments = [step.python, step.path, "serve", "--detach", "--nonce", nonce]
    for address in step.addresses:
        arguments += ["--addr", address]
    for name in step.known_as:
        arguments += ["--known-as", name]
    for head in step.apart_from:
        arguments.append(f"--apart-from={head}")
    if step.instead_of:
        arguments += ["--instead-of", step.instead_of]
    if step.site:  # not through PYTHONPATH, which every command would inherit
        arguments += ["--site", step.site]
    if step.poll_cache:
        arguments += ["--poll-cache", f"{step.poll_cache:g}"]
    return [*arguments, "--port", str(step.port), "--state-dir", step.state_dir]


def _ready(answer: Answer, shell: Shell) -> tuple[Beacon, Credentials | None]:
    try:
        found = find_ready_line(answer.text, shell.nonce)
    except ValueError as broken:
        raise _failed(f"The server's ready line is broken: {broken}", answer, shell) from None
    if found is None:
        raise _failed(_complaint(answer), answer, shell)
    return found


def _complaint(answer: Answer) -> str:
    """The server's own words, where it got so far as to have some."""
    for line in reversed(answer.text.splitlines()):
        _, ours, complaint = line.partition(_COMPLAINT)
        if ours:
            return f"The server did not start: {complaint.strip()}"
    ended = "without a status" if answer.status is None else f"with status {answer.status}"
    return f"The server ended {ended} before it was ready"


def _failed(what: str, answer: Answer, shell: Shell) -> LaunchFailed:
    noise = clean(answer.text)
    return LaunchFailed(what, host=shell.host, step="launch", advice=explain(noise), noise=noise)
