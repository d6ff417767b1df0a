"""The option --second-try: what runs against real servers and fails gets another chance, in sight.

For CI, on machines that are shared and noisy: sshd, Slurm and kernels are processes that may
starve.  Why each first try failed is printed, the closing line counts them, and more than a
few fail the run: then something is wrong.  Whatever needs no such server has one try.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

MOST = 3  # in one run
SERVERS = ("sshd", "slow", "cluster")  # markers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-try", action="store_true", help="of a few failed tests against real servers"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    if config.getoption("--second-try"):
        for item in items:
            if any(item.get_closest_marker(name) for name in SERVERS):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if len(_first_tries(session.config)) > MOST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tries = _first_tries(config)
    for report in tries:
        terminalreporter.write_sep("_", f"RERUN {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
    if len(tries) > MOST:
        terminalreporter.write_line(f"{len(tries)} second tries, and {MOST} there may be")


def _first_tries(config: pytest.Config) -> list[pytest.TestReport]:
    """Those that failed; where the tests are shared out, the one who shares knows."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.stats.get("rerun", ())) if reporter is not None else []
