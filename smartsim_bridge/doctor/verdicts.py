"""What the facts mean: each function takes what was seen and returns a finding.

Pure, so that each verdict can be tried from a table.  `fail` is for what keeps the bridge
from working at all; what only costs a rung, or time, is a `warn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bootstrap.facts import Facts, PythonFound
from ..bootstrap.plan import ELSEWHERE, OLDEST_PYTHON
from ..errors import CommandServerError
from ..protocol.beacon import Beacon
from .answers import Answers, PlaceFound, Sacct
from .findings import FAIL, OK, SKIPPED, WARN, Finding

__all__ = [
    "Crowd",
    "Hearing",
    "authentication",
    "background",
    "direct_port",
    "failure",
    "forwarding",
    "heads",
    "host_key",
    "login",
    "login_shell",
    "node_directory",
    "pythons",
    "pyzmq",
    "sacct",
    "scheduler",
    "server",
    "state_directory",
]

SLOW_LOGIN, SLOW_EXEC = 5.0, 1.0  # seconds; below, nobody waits
LITTLE_KIB = 64 * 1024  # a log, a journal, and a little output that waits for its reader
NOISE_SHOWN = 60  # characters

# Scheduler -> the commands without which it is of no use, and one that only it has.
SCHEDULERS = {
    "Slurm": ("sbatch", "squeue", "scancel"),
    "LSF": ("bsub", "bjobs", "bkill"),
    "SGE": ("qsub", "qstat", "qdel", "qconf"),
    "PBS": ("qsub", "qstat", "qdel"),
}


def failure(name: str, error: CommandServerError, verdict: str = FAIL) -> Finding:
    """What broke a stage, in the words of its error."""
    where = f" [{error.host}]" if error.host else ""
    noise = " ".join(getattr(error, "noise", "").split())
    said = f"; the host said: {noise}" if noise else ""
    return Finding(name, verdict, f"{error.what}{where}{said}", error.advice)


# --- getting there ------------------------------------------------------------------------


def host_key(shown: str, places: Sequence[str]) -> Finding:
    """`shown` is type and fingerprint, `places` are the lines that have this key."""
    where = ", ".join(places) if places else "accepted, but by no line that we could find"
    return Finding("host key", OK, f"{shown}; known from {where}")


def authentication(offered: Sequence[str], how: str) -> Finding:
    """`how` is empty where the engine does not tell."""
    said = ", ".join(offered) or "not told"
    return Finding("authentication", OK, f"offered: {said}; worked: {how or 'not told'}")


def login(seconds: float, questions: int) -> Finding:
    """From the name to a session, less the time in which a person typed."""
    asked = f"{questions} questions asked" if questions else "nobody was asked"
    if seconds <= SLOW_LOGIN:
        return Finding("login", OK, f"{seconds:.2f} s, {asked}")
    advice = "Slow logins are the host's: name service, PAM, or load. Raise --timeout if needed."
    return Finding("login", WARN, f"{seconds:.2f} s, {asked}", advice)


@dataclass(frozen=True)
class Hearing:
    """One command through the login shell: time, and what was printed before and beside it."""

    seconds: float
    out: str
    err: str


def login_shell(shell: str, heard: Hearing | None) -> Finding:
    """`heard` is None where the head is this host, and no login shell comes in between."""
    if heard is None:
        return Finding("login shell", OK, f"{shell or 'unknown'}; not used: the head is this host")
    streams = (("stdout", heard.out), ("stderr", heard.err))
    noise = [f"{name} {_quoted(text)}" for name, text in streams if text.strip()]
    evidence = f"{shell or 'unknown'}; a command takes {heard.seconds:.2f} s"
    evidence += f"; beside its output: {' and '.join(noise)}" if noise else "; silent"
    advice = []
    if heard.out.strip():
        advice.append(
            "The bridge reads past that, scp and rsync do not: start-up files should print in "
            "interactive shells only."
        )
    if heard.seconds > SLOW_EXEC:
        advice.append("Start-up files are slow. Each ssh pays that; a running server pays it once.")
    return Finding("login shell", WARN if advice else OK, evidence, " ".join(advice))


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= NOISE_SHOWN else words[:NOISE_SHOWN] + "...")


# --- what is there ------------------------------------------------------------------------


def pythons(facts: Facts) -> Finding:
    """At least one must be new enough."""
    usable = [one for one in facts.pythons if _can_serve(one)]
    found = "; ".join(_python(one) for one in usable or facts.pythons) or "no python3 on PATH"
    prelude = (
        f"; the prelude ended with status {facts.prelude_status}" if facts.prelude_status else ""
    )
    if usable:
        return Finding("Python", OK, found + prelude)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        "Python",
        FAIL,
        f"none of {wanted} or newer: {found}{prelude}",
        'Load one with --prelude "module load python", or name one with --python.',
    )


def _can_serve(python: PythonFound) -> bool:
    return python.version >= OLDEST_PYTHON


def _python(python: PythonFound) -> str:
    return f"{python.path} {'.'.join(map(str, python.version)) or python.fault}"


def pyzmq(facts: Facts) -> Finding:
    """Of the Pythons that can serve."""
    usable = [one for one in facts.pythons if _can_serve(one)]
    if not usable:
        return Finding("pyzmq", SKIPPED, "no Python to have it")
    with_it = next((one for one in usable if one.zmq), None)
    if with_it is not None:
        place = f"brought along for {with_it.path}" if with_it.site else f"in {with_it.path}"
        return Finding("pyzmq", OK, f"{with_it.zmq} {place}")
    why = "; ".join(f"{one.path}: {one.why_no_zmq or 'not there'}" for one in usable)
    return Finding(
        "pyzmq",
        WARN,
        why,
        "The bridge works over stdio. For tunnel and direct links install pyzmq for one of these, "
        "or try --provision.",
    )


def state_directory(answers: Answers) -> Finding:
    """Another place is taken where this one cannot be used."""
    if not answers.places:
        return Finding("state directory", SKIPPED, "the host did not tell")
    place, *others = answers.places
    quota, is_over = _quota(answers.quota)
    if not place.fault:
        return _room("state directory", place, quota, is_over)
    evidence = f"{_place(place)}{quota}"
    usable = {one.path.rpartition("/")[0]: one.path for one in others if not one.fault}
    instead = next((usable[root] for root in ELSEWHERE if root in usable), "")
    if instead:
        advice = (
            f"The server keeps its state in {instead} instead, where other hosts do not see it."
        )
        return Finding("state directory", WARN, evidence, advice)
    advice = "Free space, or set SMARTSIM_BRIDGE_STATE_DIR to a directory that can be written."
    return Finding("state directory", FAIL, evidence, advice)


def _room(name: str, place: PlaceFound, more: str, is_over: bool) -> Finding:
    advice = []
    if place.free_kib is not None and place.free_kib < LITTLE_KIB:
        advice.append("Little space: output that waits for its reader may not find room.")
    if is_over:
        advice.append("The quota is used up: free space before it stops a write.")
    if place.executes is False:
        advice.append(
            f"Mounted noexec: with --provision, pyzmq goes to {' or '.join(ELSEWHERE)} instead."
        )
    return Finding(name, WARN if advice else OK, _place(place) + more, " ".join(advice))


def _place(place: PlaceFound) -> str:
    if place.fault:
        return f"{place.path}: {place.fault}"
    said = [place.path if place.nearest == place.path else f"{place.path}, to be made", "writable"]
    said += [f"{_size(place.free_kib)} free"] if place.free_kib is not None else []
    said += [place.kind] if place.kind else []
    said += ["noexec"] if place.executes is False else []
    return ", ".join(said)


def _size(kib: int) -> str:
    size, unit = float(kib), "KiB"
    for larger in ("MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def _quota(lines: Sequence[str]) -> tuple[str, bool]:
    """For the evidence, and whether one is used up: `quota` marks that with an asterisk."""
    rows = [line.split() for line in lines if line.startswith("/") or ":/" in line]
    told = [
        (row[0], int(row[1].rstrip("*")), int(row[3]) or int(row[2]), "*" in row[1])
        for row in rows
        if len(row) >= 4 and row[1].rstrip("*").isdigit() and row[2].isdigit() and row[3].isdigit()
    ]
    text = "".join(
        f"; quota of {name}: {_size(used)} of {_size(limit)}" for name, used, limit, _ in told
    )
    return text, any(is_over for *_, is_over in told)


def node_directory(answers: Answers) -> Finding:
    """The first of the places that the server would try; the lock must hold there."""
    name = "node directory"
    places = answers.places[1:]
    if not places:
        return Finding(name, SKIPPED, "the host did not tell")
    usable = next((one for one in places if not one.fault), None)
    passed = [_place(one) for one in places if one.fault and one is not usable]
    if usable is None:
        advice = "The server needs one private directory on the head's own disk: ask the site."
        return Finding(name, FAIL, "; ".join(passed), advice)
    locks = {True: ", a lock holds", False: ", NO lock can be had", None: ", lock not checked"}
    shown = _place(usable) + locks[usable.locks]
    ahead = [_place(one) for one in places[: places.index(usable)]]
    evidence = "; ".join([shown, *ahead])
    if usable.locks is False:
        advice = (
            "Without a lock two clients at once may start two servers: start one by hand first."
        )
        return Finding(name, WARN, evidence, advice)
    if ahead:
        return Finding(
            name, WARN, evidence, "The next place is taken; remove what squats the first."
        )
    return Finding(name, OK, evidence)


# --- ports --------------------------------------------------------------------------------


def forwarding(proof: str, refusal: CommandServerError | None) -> Finding:
    """`proof` is what came through; `refusal` why nothing could."""
    if refusal is None:
        return Finding("forwarding", OK, proof)
    return Finding("forwarding", WARN, refusal.what, refusal.advice)


def direct_port(place: str, outcome: str, *, has_tunnel: bool) -> Finding:
    """`outcome` of trying `place`: open, refused, silent, or what else happened."""
    if outcome == "open":
        return Finding("direct port", OK, f"{place} is reached from here: direct links work")
    means = {
        "refused": "is refused on the way (reject)",
        "silent": "gets no answer (packets are dropped)",
    }
    evidence = f"{place} {means.get(outcome, outcome)}"
    if has_tunnel:
        return Finding("direct port", OK, f"{evidence}; the tunnel serves instead")
    advice = "With forwarding forbidden as well, stdio is left: one SSH session carries everything."
    return Finding("direct port", WARN, evidence, advice)


# --- who is there -------------------------------------------------------------------------


def background(survived: bool | None, reason: str, answers: Answers) -> Finding:
    """`survived` is None where it could not be tried, for `reason`."""
    if answers.has_logind:
        signs = f"KillUserProcesses={answers.kills or 'not set'}, "
        signs += f"Linger={'yes' if answers.lingers else 'no'}"
    else:
        signs = "no logind there"
    may_kill = answers.kills in ("yes", "true", "1", "on") and not answers.lingers
    advice = (
        "The server would end at logout: try `loginctl enable-linger` on the head, or ask the site."
    )
    if survived is None:
        verdict = WARN if may_kill else SKIPPED
        return Finding("background", verdict, f"{reason}; {signs}", advice if may_kill else "")
    if survived:
        return Finding("background", OK, f"a process outlived the logout; {signs}")
    return Finding("background", WARN, f"a process was ended at the logout; {signs}", advice)


@dataclass(frozen=True)
class Crowd:
    """Signs of several hosts behind one name."""

    addresses: tuple[str, ...] = ()
    keys: int = 0  # distinct keys of one type that known_hosts has for the name
    seen: tuple[str, ...] = ()  # host names, one per login
    beacons: tuple[str, ...] = ()  # other hosts whose servers left a young one in this home


def heads(crowd: Crowd) -> Finding:
    """One, or several behind an alias."""
    seen = tuple(dict.fromkeys(crowd.seen))
    # One host may well have an address of each family.
    families = [":" in address for address in crowd.addresses]
    addresses = max(families.count(True), families.count(False))
    others = [host for host in crowd.beacons if host not in seen]
    evidence = f"reached {' and '.join(seen) or 'nobody'}"
    evidence += f"; the name has {addresses} addresses" if addresses > 1 else ""
    evidence += f"; known_hosts has {crowd.keys} keys for it" if crowd.keys > 1 else ""
    evidence += f"; a server on {', '.join(others)} has the same home" if others else ""
    if len(seen) > 1 or addresses > 1 or crowd.keys > 1:
        advice = (
            f"The bridge finds your server on each of them; to stay on one, name it: {seen[0]}."
        )
        return Finding("heads", OK, evidence, advice)
    return Finding("heads", OK, evidence)


def server(beacon: Beacon | None, leftovers: str) -> Finding:
    """That none runs is no fault: one is started when it is wanted."""
    if beacon is None:
        return Finding("server", OK, leftovers)
    where = ", ".join(beacon.endpoints) or f"unix socket only: {beacon.why_no_zmq}"
    return Finding("server", OK, f"{beacon.version}, pid {beacon.pid} on {beacon.host}; {where}")


def scheduler(answers: Answers) -> Finding:
    """The first whose commands are all there."""
    found = [
        f"{name}: {', '.join(commands)}"
        for name, commands in SCHEDULERS.items()
        if answers.programs.issuperset(commands)
    ]
    if found:
        return Finding("scheduler", OK, found[0])
    partly = ", ".join(sorted(answers.programs)) or "none of sbatch, qsub, bsub"
    advice = (
        'Commands run all the same. For a scheduler in a module: --prelude "module load slurm".'
    )
    return Finding("scheduler", WARN, f"on PATH: {partly}", advice)


def sacct(found: Sacct) -> Finding:
    """With steps, as SmartSim reads them."""
    if found.status is None:
        return Finding("sacct", SKIPPED, "no sacct on PATH")
    if found.status == 0:
        seen = f"today {found.jobs} jobs of yours, {found.steps} steps"
        return Finding("sacct", OK, f"answers with steps; {seen}")
    said = found.said or ("no answer in time" if found.status == 124 else "nothing")
    advice = (
        "SmartSim follows jobs by sacct and their steps: ask the site for accounting (slurmdbd)."
    )
    return Finding("sacct", WARN, f"status {found.status}: {said}", advice)
