"""Asks a head, in one round trip, for everything that `plan` wants to know.

The question is `probe.sh`; this module only has it asked and the answer parsed.
"""

from __future__ import annotations

from ..errors import ProbeFailed
from ..protocol.beacon import FRESH_SECONDS
from ..stages import Journey
from .facts import Facts, parse_answer
from .script import assignments, text_of
from .shell import Shell

__all__ = ["probe"]

# A cold `import zmq` over a busy network file system takes some; where nobody is in a hurry,
# this is enough to tell it from one that hangs.
PYTHON_SECONDS = 10.0


def probe(
    shell: Shell,
    *,
    python: str = "",
    state_dir: str = "",
    artifact: str = "",
    size: int = 0,
    search: bool = False,
    journey: Journey,
) -> Facts:
    """What is on the host.  Raises ProbeFailed with what the host said instead.

    `artifact` and `size` are the file that would have to be sent.  Where a server runs,
    Pythons are looked for only if `search` says so.
    """
    wanted = assignments(
        nonce=shell.nonce,
        chosen=state_dir,
        python=python,
        patience=str(_patience(shell.deadline.left)),
        artifact=artifact,
        size=str(size),
        full="yes" if search else "",
        minutes=str(FRESH_SECONDS // 60),
    )
    with journey.stage("probe") as note:
        body = wanted + text_of("probe.sh")
        said = shell.ask(body, "answer", step="probe", failure=ProbeFailed)
        facts = parse_answer(said.text, shell.nonce, host=shell.host, errors=said.noise)
        note.detail = _summary(facts)
    return facts


def _patience(left: float) -> int:
    """Seconds for the first Python to answer; see probe.sh for those after one that did not."""
    return max(1, int(min(PYTHON_SECONDS, left / 4)))


def _summary(facts: Facts) -> str:
    place = f"{facts.user}@{facts.host}, {facts.system} {facts.arch}"
    if facts.prelude_status:
        place += f", the prelude ended with status {facts.prelude_status}"
    if not facts.searched:
        return f"{place}, a server runs"
    usable = next((str(python) for python in facts.pythons if python.zmq), "")
    if usable:
        return f"{place}, {usable}"
    count = len(facts.pythons)
    return f"{place}, {count} {'Python' if count == 1 else 'Pythons'} tried, none with pyzmq"
