"""The benchmarks work and their report is whole; how fast anything is, no test asks."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.budget import BUDGET, Verdict, judge
from benchmarks.figures import Spread, ratio, spread
from benchmarks.report import write_between_markers
from benchmarks.rounds import Contest, Parts, hold

ROOT = Path(__file__).parent.parent

# Less says as much of whether it works.
FEW = ["--trips=2", "--crowd=1", "--commands=20", "--cold=1", "--imports=1", "--shims=1"]
FEW += [
    "--bulk=1",
    "--largest=1",
    "--files=1",
    "--file=1",
    "--many=20",
    "--distance=1",
    "--growth=1",
    "--past=100",
]
SECONDS = 300.0

PEERS = {
    *("execnet", "mitogen", "import execnet", "import mitogen.master"),
    *("asyncssh", "Fabric", "rpyc over ssh"),
}

ROWS = {
    "Round trip": [
        *("subprocess.run", "bridge local", "bridge direct", "bridge tunnel", "bridge stdio"),
        *("execnet", "mitogen", "paramiko exec", "ssh ControlMaster", "fresh ssh"),
    ],
    "Many commands": ["subprocess.run", "bridge direct", "bridge tunnel", "bridge stdio"],
    "From nothing": [
        *("fresh ssh", "autostart, nothing there", "autostart, far half there"),
        *("reconnect direct", "reconnect tunnel", "execnet", "mitogen"),
    ],
    "Interpreters": [
        *("python -I -S -c pass", "python -c pass", "import smartsim_bridge"),
        *("init_command_server", "import zmq", "import paramiko", "import execnet"),
    ],
    "Shims": ["true", "python -I -S -c pass", "a shim, answered at once"],
    "Output": ["subprocess.run", "bridge direct", "bridge tunnel", "fresh ssh"],
    "Input": ["subprocess.run", "bridge direct", "bridge tunnel", "fresh ssh"],
    "Growth": ["1 client", "1 client, 100 commands later", "10 clients", "100 clients"],
    "With a round trip of 50": ["a round trip", "bridge direct", "bridge tunnel", "fresh ssh"],
    "With a round trip of 100": ["a round trip", "bridge stdio", "ssh ControlMaster"],
}


@pytest.mark.sshd
@pytest.mark.slow
def test_a_quick_run_reports_every_row(needs_sshd: None, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--seed=1", *FEW),
            *("--results", str(tmp_path), "--document", str(document)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    text = document.read_text()
    assert text.startswith("before\n<!-- results -->\n")
    assert text.endswith("\n<!-- /results -->\nafter\n")
    assert done.stdout.strip() in text
    assert " failed in " not in text, done.stdout
    # Peers may not be installed; we ourselves are.
    missing = re.findall("^- (.+) is missing", text, re.MULTILINE)
    assert set(missing) <= PEERS, done.stdout
    for title, rows in ROWS.items():
        (section,) = (part for part in text.split("### ") if part.startswith(title))
        first_cells = [line.split("|")[1].strip() for line in section.splitlines() if "|" in line]
        assert set(rows) <= set(first_cells), section
    assert all(promise.words in text for promise in BUDGET)

    (file,) = tmp_path.glob("*.json")
    raw = json.loads(file.read_text())
    assert raw["seed"] == 1
    assert len(raw["contests"]["trips"]["rounds"]) == 2
    assert str(tmp_path.home()) not in file.read_text() + text


def test_each_round_has_one_turn_of_each_in_an_order_of_its_own() -> None:
    taken: list[str] = []

    def turn(name: str) -> Parts:
        taken.append(name)
        return {"seconds": 1.0}

    names = "abcdefgh"
    contest = hold("a test", {name: partial(turn, name) for name in names}, 2, random.Random(1))

    assert sorted(taken[:8]) == sorted(taken[8:]) == list(names)
    assert taken[:8] != taken[8:]
    assert [sorted(one) for one in contest.rounds] == [list(names), list(names)]


def test_a_turn_that_fails_costs_only_itself_and_is_told() -> None:
    calls = iter([0, 1, 0])

    def sometimes() -> Parts:
        if next(calls):
            raise ValueError("no luck")
        return {"seconds": 2.0}

    contest = hold(
        "a test", {"good": lambda: {"seconds": 1.0}, "bad": sometimes}, 3, random.Random(1)
    )

    assert contest.values("good", "seconds") == [1.0, 1.0, 1.0]
    assert contest.values("bad", "seconds") == [2.0, 2.0]
    assert contest.failures("bad") == 1
    assert contest.faults == {"bad": "ValueError: no luck"}


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine became ten times slower, which says nothing of either.
    rounds = [{"a": {"s": 2.0}, "b": {"s": 1.0}}, {"a": {"s": 20.0}, "b": {"s": 10.0}}]
    contest = Contest([*rounds, {"a": {"s": 1.0}}])

    assert ratio(contest, ("a", "s"), ("b", "s")) == Spread(2.0, 2.0, 2.0, 2)
    assert spread(contest, "a", "s") == Spread(1.5, 2.0, 11.0, 3)
    assert spread(contest, "c", "s") is None


def test_a_promise_about_a_missing_peer_is_neither_kept_nor_broken() -> None:
    nothing = {promise.chapter: Contest() for promise in BUDGET}

    assert {verdict.kept for verdict in judge(nothing, {}, [])} == {None}
    assert Verdict("x", Spread(1, 2, 3, 3), 2.0).kept is True
    assert Verdict("x", Spread(1, 2, 3, 3), 1.9).kept is False


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("my own words\n")

    with pytest.raises(ValueError, match="has no <!-- results -->"):
        write_between_markers(document, "tables")
    assert document.read_text() == "my own words\n"
