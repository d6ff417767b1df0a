"""Reads the server's log on the head, whether a server runs or not.

It is wanted most when the server died, so no server is asked for it.
"""

from __future__ import annotations

from ..errors import NoServer, ProbeFailed
from ..stages import Journey
from .facts import Facts
from .neighbours import means_this_host
from .plan import ELSEWHERE, Wish, plan
from .probe import probe
from .script import assignments
from .servers import Elsewhere, Use
from .shell import Shell

__all__ = ["read_log"]

# Of the patterns, which may hold stars, the first that means any file of ours: of several such
# files the one that was written last.
_BODY = """
read_log() {
    IFS='
'
    for pattern in $patterns; do
        for log in $(ls -t $pattern 2>/dev/null); do
            [ -f "$log" ] && [ -O "$log" ] && tail -n "$lines" "$log" && return
        done
    done
    return 1
}
"""


def read_log(
    shell: Shell, *, names: tuple[str, ...], lines: int, state_dir: str = "", journey: Journey
) -> str:
    """The last `lines` lines: of the server that a client would find, else of a former one.

    `names` are those of the target.  Raises NoServer where there is no log, and what Shell
    raises.
    """
    facts = probe(shell, state_dir=state_dir, journey=journey)
    patterns = "\n".join(_patterns(facts, names))
    body = assignments(patterns=patterns, lines=str(lines)) + _BODY
    answer = shell.ask(body, "read_log", step="logs", failure=ProbeFailed)
    if answer.status != 0:
        raise NoServer(
            "There is no log: no server has run there in the background",
            host=shell.host,
            step="logs",
        )
    return answer.text.strip("\n") + "\n"


def _patterns(facts: Facts, names: tuple[str, ...]) -> list[str]:
    try:
        found = plan(facts, Wish("", "", autostart=False, names=names))
    except NoServer:
        found = None
    places = [facts.state_dir, *(f"{root}/smartsim-bridge-{facts.uid}" for root in ELSEWHERE)]
    patterns = [f"{place}/logs/{facts.host}.log" for place in places]
    if isinstance(found, Use):
        patterns.insert(0, found.beacon.log)
    elif isinstance(found, Elsewhere):
        patterns.insert(0, found.servers[0].beacon.log)
    if names and not means_this_host(names, facts):
        # The login may have led to another head than the one where a server was.
        patterns.append(f"{facts.state_dir}/logs/*.log")
    return patterns
