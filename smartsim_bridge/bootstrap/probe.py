"""Asks a head, in one round trip, for everything that `plan` wants to know.

The question is `probe.sh`; this module only sends it and has the answer parsed.
"""

from __future__ import annotations

from ..deadline import Deadline
from ..stages import Journey
from .facts import Facts, parse_answer
from .host import Host
from .script import COMMAND, assignments, compose, text_of

__all__ = ["probe"]


def probe(
    host: Host,
    *,
    nonce: str,
    prelude: str = "",
    python: str = "",
    state_dir: str = "",
    artifact: str = "",
    size: int = 0,
    search: bool = False,
    deadline: Deadline,
    journey: Journey,
) -> Facts:
    """What is on `host`.  Raises ProbeFailed with what the host said instead.

    `artifact` and `size` are the file that would have to be sent.  Where a server runs,
    Pythons are looked for only if `search` says so.
    """
    wanted = assignments(
        nonce=nonce,
        chosen=state_dir,
        python=python,
        artifact=artifact,
        size=str(size),
        full="yes" if search else "",
    )
    script = compose("answer", body=wanted + text_of("probe.sh"), prelude=prelude)
    with journey.stage("probe") as note:
        said = host.execute(COMMAND, stdin=script, deadline=deadline)
        facts = parse_answer(
            said.stdout.decode("utf-8", "surrogateescape"),
            nonce,
            host=host.target.spelled,
            errors=said.stderr.decode("utf-8", "backslashreplace"),
        )
        note.detail = _summary(facts)
    return facts


def _summary(facts: Facts) -> str:
    place = f"{facts.user}@{facts.host}, {facts.system} {facts.arch}"
    if not facts.searched:
        return f"{place}, a server runs"
    usable = sum(1 for python in facts.pythons if python.version)
    return f"{place}, {usable} Pythons tried"
