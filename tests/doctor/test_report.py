"""How findings look."""

from __future__ import annotations

import json

import pytest

from smartsim_bridge.doctor.findings import CHECKS, Chart, Finding
from smartsim_bridge.doctor.report import Report

LONG = "a word " * 60


def report(*findings: Finding) -> Report:
    return Report("login1", "1.0", findings)


@pytest.mark.parametrize(("width", "most"), [(0, 80), (80, 80), (95, 95), (300, 100)])
def test_lines_are_as_long_as_a_ticket_takes_them(width: int, most: int) -> None:
    text = report(
        Finding("sacct", "warn", LONG, LONG), Finding("state directory", "ok", "x" * 300)
    ).to_text(width)
    longest = max(map(len, text.splitlines()))
    assert most - 8 < longest <= most


def test_each_verdict_has_its_word_and_the_summary_names_what_failed() -> None:
    text = report(
        Finding("name", "ok", "fine"),
        Finding("Python", "fail", "none", "load one"),
        Finding("pyzmq", "skipped", "no Python"),
        Finding("sacct", "warn", "odd"),
    ).to_text()
    assert "\nok    name    fine\n" in text
    assert "\nFAIL  Python  none\n              > load one\n" in text
    assert "\n-     pyzmq   no Python\n" in text
    assert text.endswith("\nFailed: Python.\n")


def test_colours_are_for_screens_and_text_of_hosts_steers_none() -> None:
    one = report(Finding("name", "ok", "\x1b[2Jgone\x07\nnext", "\x1b]0;x"))
    assert "\x1b" not in one.to_text()
    assert "\x1b[32mok  \x1b[0m" in one.to_text(colours=True)
    assert one.to_text(colours=True).count("\x1b") == 2
    assert json.loads(one.to_json())["findings"][0]["evidence"] == "?[2Jgone? next"


def test_only_a_failure_fails() -> None:
    assert not report(Finding("name", "warn", ""), Finding("sacct", "skipped", "")).has_failed
    assert report(Finding("name", "fail", "")).has_failed


def test_a_chart_keeps_the_order_and_the_last_word() -> None:
    chart = Chart()
    chart.add(
        Finding("sacct", "ok", "1"), Finding("name", "ok", "2"), Finding("sacct", "warn", "3")
    )
    chart.skip(CHECKS, "not reached")
    assert [one.name for one in chart.findings] == list(CHECKS)
    assert chart.findings[-1].evidence == "3"
    assert chart.findings[1] == Finding("TCP port", "skipped", "not reached")
