"""Walks every stage to a head and fills the chart; no fault of one check ends the others.

Two logins at most, and the second only where the first needed nobody: what a process does
at logout shows only afterwards.  Knows how to gather; what it means is said in `verdicts`.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from types import TracebackType
from typing import TYPE_CHECKING

from .. import __version__
from ..bootstrap.facts import Facts
from ..bootstrap.host import Host
from ..bootstrap.neighbours import neighbours
from ..bootstrap.plan import OLDEST_PYTHON, Wish, plan
from ..bootstrap.probe import probe
from ..bootstrap.script import COMMAND, SPARE_LINES, assignments
from ..bootstrap.servers import Elsewhere, Use
from ..bootstrap.shell import Shell
from ..client.place import Place
from ..client.reach import open_connection, this_host
from ..deadline import Deadline
from ..errors import CommandServerError, NoServer, ProbeFailed
from ..settings import Settings
from ..ssh.ask import Unattended, default_ask
from ..ssh.engine import OVER_MASTER
from ..stages import Journey
from . import verdicts
from .answers import Answers, parse_answers
from .findings import CHECKS, FAIL, OK, SKIPPED, WARN, Chart, Finding
from .report import Report
from .trials import Listener, Survivor, addresses_to_try, knock, try_forwarding
from .verdicts import Crowd, Hearing

if TYPE_CHECKING:
    from ..ssh.engine import Connection, Destination

__all__ = ["examine"]

# All that is asked and tried between the two logins; each login has the user's timeout.
VISIT_SECONDS = 90.0
EXEC_SECONDS = 20.0

# A person is asked once; a host that rings a phone without asking must not do so twice.
_NOBODY = Unattended("a second login would ask again", "")

# The stages of a connect, as the journey names them, and the checks that they are.
_STAGES = {
    "resolve": "name",
    "connect": "TCP port",
    "host key": "host key",
    "authenticate": "authentication",
}
_ON_THE_WAY = (*_STAGES.values(), "login")
# It says in one word only how it went.
_BY_SSH = "left to the system's ssh"
_BY_MASTER = "not checked now: it was when you logged in for your ControlMaster"


def examine(settings: Settings) -> Report:
    """All findings about the target of `settings`.  Raises nothing of ours."""
    examination = _Examination(settings)
    examination.run()
    return Report(settings.addr, __version__, examination.chart.findings)


class _Examination:
    """What was found out so far, for the checks that build on it."""

    def __init__(self, settings: Settings) -> None:
        self.chart = Chart()
        self._questions = _Questions(settings)
        self._settings = self._questions.counted
        self._facts: Facts | None = None
        self._answers = Answers()
        self._crowd = Crowd()
        self._survivor: Survivor | None = None
        self._is_forwarding = False
        self._no_return = ""  # why there is no second login

    def run(self) -> None:
        if Place.of(self._settings).needs_ssh:
            self._go_there()
        else:
            self.chart.skip(_ON_THE_WAY, "the head is this host")
            self.chart.skip(("forwarding", "direct port"), "the head is this host")
            self.chart.skip(("background",), "the head is this host: there is no logout")
            self._ask(this_host(self._settings))
            if self._facts is not None:
                self.chart.add(verdicts.login_shell(self._answers.shell, None))
        reason = f"not reached: {self.chart.first_failure or 'an earlier check'} failed"
        self.chart.skip(CHECKS, reason)

    # --- the way there --------------------------------------------------------------------

    def _go_there(self) -> None:
        connection = None
        with self._check("login"):
            connection = self._log_in()
        if connection is None:
            return
        with connection:
            heard = self._hear(connection)
            if heard is None:
                return
            self._ask(connection, connection)
            if self._facts is not None:
                self.chart.add(verdicts.login_shell(self._answers.shell, heard))
        with self._check("background", WARN):
            self._come_back()

    def _log_in(self) -> Connection | None:
        journey = Journey(self._settings.addr, self._settings.on_stage)
        began = time.monotonic()
        try:
            deadline = Deadline(self._settings.timeout)
            connection = open_connection(self._settings, deadline, journey)
        except CommandServerError as error:
            self._tell_stages(journey)
            reached = [_STAGES[one.name] for one in journey.stages if one.name in _STAGES]
            broke = reached[-1] if reached else "name"
            self.chart.add(verdicts.failure(broke, error))
            self.chart.skip(_ON_THE_WAY[: _ON_THE_WAY.index(broke)], _BY_SSH)
            return None
        seconds = time.monotonic() - began - self._questions.seconds
        self._tell_stages(journey)
        shown = next((one.detail for one in journey.stages if one.name == "host key"), "")
        self._tell_host_key(shown, connection.target)
        self.chart.add(
            verdicts.authentication(connection.offered, connection.login),
            verdicts.login(seconds, self._questions.count),
        )
        if connection.login == OVER_MASTER:
            self.chart.skip(("host key",), _BY_MASTER)
        self.chart.skip(_ON_THE_WAY, _BY_SSH)
        is_touched = any(stage.name == "touch" for stage in journey.stages)
        if connection.login == OVER_MASTER:
            self._no_return = "your ControlMaster stays logged in"
        elif self._questions.count or is_touched:
            self._no_return = "a second login would ask again"
        return connection

    def _tell_stages(self, journey: Journey) -> None:
        for stage in journey.stages:
            if stage.name in _STAGES and not stage.failed:
                self.chart.add(Finding(_STAGES[stage.name], OK, stage.detail))
            if stage.name == "resolve":
                self._crowd = replace(self._crowd, addresses=_addresses(stage.detail))

    def _tell_host_key(self, shown: str, target: Destination) -> None:
        from ..ssh.known_hosts import fingerprint, read_known_keys
        from ..ssh.target import Target

        if not isinstance(target, Target):
            return
        lines = read_known_keys(target.host_key_name, target.known_hosts)
        known = [line for line in lines if not line.marker]
        kinds = [kind for kind, _ in {(line.key_type, line.blob) for line in known}]
        most = max(map(kinds.count, kinds), default=0)
        self._crowd = replace(self._crowd, keys=most)
        places = [line.place for line in known if fingerprint(line.blob) in shown]
        self.chart.add(verdicts.host_key(shown, places))

    def _hear(self, connection: Connection) -> Hearing | None:
        """One command that says nothing but two marks; what else is said is noise.

        Whether it got as far as the marks is judged by the shell that comes next.
        """
        nonce = secrets.token_hex(8)
        # A start-up file that asks something reads the first lines for an answer.
        script = "\n" * SPARE_LINES + f"echo; echo {nonce}; echo >&2; echo {nonce} >&2\n"
        began = time.monotonic()
        with self._check("login shell"):
            limit = Deadline(EXEC_SECONDS)
            done = connection.execute(COMMAND, stdin=script.encode(), deadline=limit)
            seconds = time.monotonic() - began
            out, err = (raw.decode("utf-8", "replace") for raw in (done.stdout, done.stderr))
            return Hearing(seconds, out.partition(nonce)[0], err.partition(nonce)[0])
        return None

    # --- what is there --------------------------------------------------------------------

    def _ask(self, host: Host, connection: Connection | None = None) -> None:
        deadline = Deadline(VISIT_SECONDS)
        with Shell(host, prelude=self._settings.prelude or "", deadline=deadline) as shell:
            with self._check("login shell"):
                self._facts = self._probe(shell)
            if self._facts is None:
                return
            self._crowd = replace(self._crowd, seen=(self._facts.host,))
            with self._check("state directory"):
                self._answers = _ask_questions(shell, self._facts.state_dir)
            self._tell_facts(host, self._facts)
            if connection is not None:
                self._try(shell, connection, self._facts, deadline)

    def _probe(self, shell: Shell) -> Facts:
        return probe(
            shell,
            python=self._settings.python or "",
            state_dir=self._settings.state_dir,
            search=True,
            journey=Journey(self._settings.addr, self._settings.on_stage),
        )

    def _tell_facts(self, host: Host, facts: Facts) -> None:
        others = tuple(beacon.host for beacon, _ in neighbours(facts))
        self._crowd = replace(self._crowd, beacons=others)
        self.chart.add(verdicts.pythons(facts), verdicts.pyzmq(facts))
        with self._check("server", WARN):
            self.chart.add(_server(facts, host.target.names))
        self.chart.add(verdicts.heads(self._crowd))
        if not self._answers.is_whole:
            return
        self.chart.add(
            verdicts.state_directory(self._answers),
            verdicts.node_directory(self._answers),
            verdicts.scheduler(self._answers),
            verdicts.sacct(self._answers.sacct),
        )

    def _try(self, shell: Shell, connection: Connection, facts: Facts, deadline: Deadline) -> None:
        with self._check("forwarding", WARN):
            self._tell_forwarding(connection, facts, deadline)
        with self._check("direct port", WARN):
            self.chart.add(self._direct_port(shell, facts))
        if not self._no_return:
            with self._check("background", WARN):
                self._survivor = Survivor.leave(shell, facts.host)

    def _tell_forwarding(self, connection: Connection, facts: Facts, deadline: Deadline) -> None:
        parts = facts.ssh_connection.split()
        port = int(parts[3]) if len(parts) == 4 and parts[3].isdigit() else connection.target.port
        directory = self._settings.runtime_directory
        try:
            proof = try_forwarding(connection, port, directory, deadline)
        except CommandServerError as refusal:
            self.chart.add(verdicts.forwarding("", refusal))
            return
        self._is_forwarding = True
        self.chart.add(verdicts.forwarding(proof, None))

    def _direct_port(self, shell: Shell, facts: Facts) -> Finding:
        name = "direct port"
        python = next((one for one in facts.pythons if one.version >= OLDEST_PYTHON), None)
        addresses = addresses_to_try(facts.ssh_connection)
        if python is None:
            return Finding(name, SKIPPED, "no Python there to open a port with")
        if not addresses:
            return Finding(name, SKIPPED, "the head has a public address: no port is opened to it")
        with Listener(shell, python.path, addresses[0]) as listener:
            place = f"{listener.address}:{listener.port}"
            outcome = knock(listener)
        return verdicts.direct_port(place, outcome, has_tunnel=self._is_forwarding)

    # --- the second login -----------------------------------------------------------------

    def _come_back(self) -> None:
        """Logs in once more, where that needs nobody, and looks for what was left running."""
        if self._facts is not None and self._no_return:
            self._tell_background(None, f"not checked: {self._no_return}")
        if self._survivor is None:
            return
        try:
            is_there, host = self._look_again(self._survivor)
        except CommandServerError as error:
            self._tell_background(None, f"not checked: the second login failed: {error.what}")
            return
        self._crowd = replace(self._crowd, seen=(*self._crowd.seen, host))
        self.chart.add(verdicts.heads(self._crowd))
        if host != self._survivor.host:
            self._tell_background(None, f"not checked: the second login came to {host}")
        elif not is_there and self._survivor.is_over:
            self._tell_background(None, "not checked: the second login took too long")
        else:
            self._tell_background(is_there, "")

    def _look_again(self, survivor: Survivor) -> tuple[bool, str]:
        journey = Journey(self._settings.addr, self._settings.on_stage)
        deadline = Deadline(self._settings.timeout)
        settings = replace(self._settings, ask=_NOBODY)
        with ExitStack() as stack:
            connection = stack.enter_context(open_connection(settings, deadline, journey))
            shell = stack.enter_context(Shell(connection, deadline=Deadline(EXEC_SECONDS)))
            return survivor.look(shell)

    def _tell_background(self, survived: bool | None, reason: str) -> None:
        self.chart.add(verdicts.background(survived, reason, self._answers))

    def _check(self, name: str, verdict: str = FAIL) -> _Check:
        return _Check(self.chart, name, verdict)


class _Check:
    """A context: a fault inside is the finding of this check, and nothing worse."""

    def __init__(self, chart: Chart, name: str, verdict: str) -> None:
        self._chart, self._name, self._verdict = chart, name, verdict

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, CommandServerError):
            self._chart.add(verdicts.failure(self._name, error, self._verdict))
        elif isinstance(error, Exception):
            # A doctor who dies of one symptom tells nothing of the others.
            what = f"the check itself broke: {type(error).__name__}: {error}"
            self._chart.add(Finding(self._name, FAIL, what))
        return isinstance(error, Exception)


class _Questions:
    """Counts what a person was asked, and the time that it took; keeps no answer."""

    def __init__(self, settings: Settings) -> None:
        self.count, self.seconds = 0, 0.0
        self._ask = settings.ask
        self.counted = replace(settings, ask=self._answer)

    def _answer(self, prompt: str, secret: bool) -> str:
        ask = self._ask or default_ask()
        self.count += 1
        began = time.monotonic()
        try:
            return ask(prompt, secret)
        finally:
            self.seconds += time.monotonic() - began


def _ask_questions(shell: Shell, state: str) -> Answers:
    script = files(__package__).joinpath("questions.sh").read_text("utf-8")
    body = assignments(nonce=shell.nonce, state=state) + script
    said = shell.ask(body, "answer", step="questions", failure=ProbeFailed)
    answers = parse_answers(said.text, shell.nonce)
    if not answers.is_whole:
        raise ProbeFailed("our questions broke off", host=shell.host, step="questions")
    return answers


def _server(facts: Facts, names: tuple[str, ...]) -> Finding:
    """What a connect without autostart would find."""
    try:
        found = plan(facts, Wish("", artifact="", autostart=False, names=names))
    except NoServer as none:
        return verdicts.server(None, none.what)
    if isinstance(found, Elsewhere):
        found = found.servers[0]
    return verdicts.server(found.beacon if isinstance(found, Use) else None, "none runs")


def _addresses(detail: str) -> tuple[str, ...]:
    """Those in what the stage said; where a jump host resolves the name there are none."""
    found = []
    for word in detail.split(", "):
        try:
            found.append(str(ipaddress.ip_address(word.partition("%")[0])))
        except ValueError:
            continue
    return tuple(found)
