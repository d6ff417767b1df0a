from __future__ import annotations

import subprocess

import pytest

from smartsim_bridge.bootstrap.script import (
    assignments,
    greeting,
    on_one_line,
    quote,
    subshell,
    words,
)
from smartsim_bridge.errors import InvalidSettings

NASTY = [
    "",
    " ",
    "it's",
    "'",
    "''\"\"",
    "$(touch /tmp/x)`id`$HOME",
    "a\nb\n",
    "back\\slash\\",
    "!history!",
    "*?[a]{b,c}~",
    "ünïcödé \u0081\u0088",
    "-n",
    ";&|<>()#",
    "\x01\x1b\x7f",
]


def greeted(prelude: str, question: str) -> str:
    """What a shell answers to its greeting, after it has said that it is ours."""
    said = run(greeting(question, nonce="n0nce", prelude=prelude))
    before, here, after = said.partition("\nn0nce-HERE.")
    assert here
    assert before == ""
    return after


def run(script: str | bytes) -> str:
    text = script.encode() if isinstance(script, str) else script
    done = subprocess.run(["/bin/sh"], input=text, capture_output=True, check=False)
    return done.stdout.decode()


@pytest.mark.parametrize("text", NASTY)
def test_any_text_comes_out_of_the_shell_as_it_went_in(text: str) -> None:
    assert run(f"printf '%s|' {quote(text)}") == f"{text}|"
    assert run(assignments(name=text) + "printf '%s|' \"$name\"") == f"{text}|"


@pytest.mark.parametrize("text", NASTY)
def test_any_script_fits_on_one_line(text: str) -> None:
    line = on_one_line(f"printf '%s|' {quote(text)}; echo 100%")

    assert line.count("\n") == 1
    assert line.count("'") == 2, "whatever is cut off, at either end, leaves an open quote"
    assert run(line) == f"{text}|100%\n"


def test_words_stay_apart() -> None:
    assert run(f"printf '%s|' {words(NASTY)}") == "".join(f"{text}|" for text in NASTY)


def test_a_nul_character_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="NUL"):
        quote("a\0b")


def test_a_subshell_leaves_the_shell_as_it_was() -> None:
    body = "change() {\n    cd /; set -f; A=inner; exec echo done\n}"

    assert run(f"A=outer; {subshell(body, 'change')}echo $A") == "done\nouter\n"


def test_a_subshell_has_nothing_to_read() -> None:
    assert run(subshell("take() {\n    cat\n}", "take") + "echo mine\n") == "mine\n"


def test_a_prelude_of_several_lines_runs_each() -> None:
    assert greeted("A=1\nB=2\n# a comment", "echo $A$B\n") == "12\n"


def test_what_the_prelude_says_comes_before_the_answer() -> None:
    assert greeted("echo loaded; echo why >&2", "echo mine\n") == "loaded\nwhy\nmine\n"


def test_the_status_of_a_failing_prelude_is_kept() -> None:
    assert greeted("(exit 7)", "echo $prelude_status\n") == "7\n"


@pytest.mark.parametrize("prelude", ["echo 'open", "cat <<END", "if true; then", "}", ")"])
def test_an_unfinished_prelude_cannot_change_the_script(prelude: str) -> None:
    # Some shells end at a syntax error in eval, others go on.
    said = greeted(prelude, "echo alive\n").splitlines()
    assert said[-1] == "alive" or "yntax error" in said[-1]


@pytest.mark.parametrize("prelude", ["set -e", "set -u", "set -eu"])
def test_a_strict_prelude_does_not_make_us_strict(prelude: str) -> None:
    assert greeted(prelude, "false; echo $unset_one alive\n") == "alive\n"
