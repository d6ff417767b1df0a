"""What the documents promise is what the code has, and what they show runs.

Python blocks run in the order of their file, in one namespace, against a head node that is
called login1 and a server on this host; those after a line `<!-- not run: why -->` are only
compiled.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartsim_bridge import AsyncBridge, Bridge, cli, errors, init_command_server
from smartsim_bridge.demo.embedded import EmbeddedHeadNode
from smartsim_bridge.demo.show import add_demo_options
from smartsim_bridge.server.options import add_serve_options

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference.md"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
# Written from a run of the benchmarks, so it need not be there in every clone.
MAY_BE_MISSING = ROOT / "docs" / "performance.md"

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")

STUBS = {
    "sbatch": "echo 4711",
    "squeue": "echo JOBID",
    "scancel": "exit 0",
    "sinfo": "echo PARTITION",
}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def test_decisions_are_numbered_without_a_gap_and_listed() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    assert [page.read_text("utf-8").split(".")[0] for page in pages] == [f"# {n}" for n in numbers]
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = re.findall(r"^(\d+)\. \[.+\]\(decisions/(.+)\)$", index, re.MULTILINE)
    assert listed == [(str(n), page.name) for n, page in zip(numbers, pages)]


# --- links


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if goal == MAY_BE_MISSING and not goal.exists():
            continue
        assert goal.exists(), f"{_name(page)} links to {link}"
        if anchor:
            assert anchor in _anchors(goal), f"{_name(page)} links to {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        todo += [
            (page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(_prose(page))
        ]
    assert set(PAGES) <= seen


# --- what must not be in them


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_path_of_a_machine_is_named(page: Path) -> None:
    found = re.findall(
        r"/root\b|/work\b|/home/\w+|/Users/",
        page.read_text("utf-8"),
    )
    assert not found


# --- what is drawn from the code


def test_drawn_tables_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "draw_tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"run docs/draw_tables.py\n{done.stdout}{done.stderr}"


def test_every_error_has_advice_in_the_how_to() -> None:
    told = set(
        re.findall(
            r"^\| (?:&nbsp;)*`(\w+)` \| \S",
            (ROOT / "docs/how-to.md").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    assert told == set(errors.__all__)


# --- names


def _keywords_of_section(heading: str) -> dict[str, str]:
    """Keyword -> default, from the first table below the heading."""
    text = REFERENCE.read_text("utf-8").partition(f"{heading}\n")[2]
    table = re.split(r"\n(?!\|)", text[text.index("\n| ---") + 1 :])[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", table, re.MULTILINE))


def _parameters(function: object) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)  # type: ignore[arg-type]
    found.pop("self", None)
    return found


@pytest.mark.parametrize(
    ("heading", "function"),
    [
        ("## `init_command_server`", init_command_server),
        ("### `Bridge.run`", Bridge.run),
        ("### `Bridge.popen`", Bridge.popen),
    ],
)
def test_keywords_in_the_reference_are_those_of_the_signature(
    heading: str, function: object
) -> None:
    assert list(_keywords_of_section(heading)) == list(_parameters(function))


def test_defaults_in_the_reference_are_those_of_the_settings() -> None:
    from smartsim_bridge.settings import Settings

    settings = Settings()
    for name, told in _keywords_of_section("## `init_command_server`").items():
        found = re.fullmatch(r"`(.+)`", told)
        if found:
            assert found[1].replace('"', "'") == repr(getattr(settings, name)), name


def test_async_methods_have_the_keywords_that_the_reference_says() -> None:
    assert list(_parameters(AsyncBridge.run)) == list(_parameters(Bridge.run))
    missing = set(_parameters(Bridge.popen)) - set(_parameters(AsyncBridge.popen))
    assert missing == {"text", "encoding", "errors"}


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def _verbs() -> dict[str, set[str]]:
    parser = cli._parser()
    (verbs,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    found = {name: _options(one) for name, one in verbs.choices.items()}
    demo = argparse.ArgumentParser()
    add_demo_options(demo)
    return {**found, "demo": _options(demo), "--version": set()}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_line_is_one_that_the_parser_knows(page: Path) -> None:
    verbs = _verbs()
    lines = re.findall(r"smartsim-bridge +([a-z-]+)([^\n`]*)", page.read_text("utf-8"))
    for verb, rest in lines:
        if verb not in verbs:
            assert not rest.lstrip().startswith("--"), f"smartsim-bridge {verb}{rest}"
            continue
        ours = re.split(r" -- | #", rest)[0]
        unknown = set(re.findall(r"(?<!\S)-{1,2}[a-z][a-z-]*", ours)) - verbs[verb]
        assert not unknown, f"smartsim-bridge {verb}{rest}"


def test_options_in_the_reference_are_those_of_the_parsers() -> None:
    text = REFERENCE.read_text("utf-8").partition("## Command line")[2].partition("## Files")[0]
    ours, _, servers = text.partition("### `scripts/start_cmd_server.py`")
    told = set(re.findall(r"`(--?[a-z][a-z-]*)", ours))
    known = set().union(*_verbs().values()) - {"-h", "--help"}
    assert told - {"--"} == known
    assert set(re.findall(r"^\| `([a-z]+)` \|", ours, re.MULTILINE)) >= set(_verbs()) - {
        "--version"
    }
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    assert set(re.findall(r"^\| `(--[a-z-]+)", servers, re.MULTILINE)) == _options(parser) - {
        "-h",
        "--help",
    }


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(
        r"`((?:scripts|smartsim_bridge|docs|tests)/[\w/.]+)`", page.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_tests_in_the_security_page_are_there() -> None:
    text = (ROOT / "docs/how-it-works/security.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)`", text))
    assert named
    assert sorted(name for name in named if not (ROOT / "tests" / name).exists()) == []


# --- what is shown runs


def _blocks(page: Path) -> list[tuple[bool, str]]:
    """Whether it runs, and the code."""
    return [(not skip, code) for skip, code in BLOCK.findall(page.read_text("utf-8"))]


SHOWING = [page for page in PAGES if _blocks(page)]


@pytest.mark.parametrize("page", SHOWING, ids=_name)
def test_python_in_the_documents_compiles(page: Path) -> None:
    for _, code in _blocks(page):
        compile(code, str(page), "exec")


@pytest.fixture
def site(near_home: Path) -> Iterator[int]:
    """A head that ssh_config calls login1, and a server on this host; its port."""
    with EmbeddedHeadNode() as head:
        ssh = near_home / ".ssh"
        ssh.mkdir(mode=0o700)
        lines = head.ssh_config.read_text("utf-8").replace(f"Host {head.addr}", "Host login1")
        (ssh / "config").write_text(lines, "utf-8")
        programs = head.home / "bin"
        programs.mkdir()
        for name, line in STUBS.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n", "utf-8")
            (programs / name).chmod(stat.S_IRWXU)
        config = near_home / ".config" / "smartsim-bridge"
        config.mkdir(parents=True)
        (config / "config.toml").write_text('[host.login1]\nprelude = "PATH=$HOME/bin:$PATH"\n')
        with _ServerByHand() as port:
            yield port


class _ServerByHand:
    """As in the README, but with any free port."""

    def __enter__(self) -> int:
        script = ROOT / "scripts" / "start_cmd_server.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"tcp://127\.0\.0\.1:(\d+)", line)
            if found:
                return int(found[1])
        raise AssertionError("no server")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=15)


@pytest.mark.parametrize("page", SHOWING, ids=_name)
def test_python_in_the_documents_runs(page: Path, site: int) -> None:
    # In a process of its own: what it leaves open ends with it, as for the reader.
    runnable = [code for runs, code in _blocks(page) if runs]
    program = "\n\n".join(runnable).replace("5555", str(site))
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
