from __future__ import annotations

import subprocess

import pytest

from smartsim_bridge.bootstrap.script import assignments, beginning, quote, subshell, words
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


def run(script: str | bytes) -> str:
    text = script.encode() if isinstance(script, str) else script
    done = subprocess.run(["/bin/sh"], input=text, capture_output=True, check=False)
    return done.stdout.decode()


@pytest.mark.parametrize("text", NASTY)
def test_any_text_comes_out_of_the_shell_as_it_went_in(text: str) -> None:
    assert run(f"printf '%s|' {quote(text)}") == f"{text}|"
    assert run(assignments(name=text) + "printf '%s|' \"$name\"") == f"{text}|"


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
    assert run(beginning("A=1\nB=2\n# a comment") + "echo $A$B\n") == "12\n"


def test_the_prelude_talks_to_stderr() -> None:
    assert run(beginning("echo loaded") + "echo mine\n") == "mine\n"


def test_the_status_of_a_failing_prelude_is_kept() -> None:
    assert run(beginning("(exit 7)") + "echo $prelude_status\n") == "7\n"


@pytest.mark.parametrize("prelude", ["echo 'open", "cat <<END", "if true; then", "}", ")"])
def test_an_unfinished_prelude_cannot_change_the_script(prelude: str) -> None:
    # Some shells end at a syntax error in eval, others go on.
    assert run(beginning(prelude) + "echo alive\n") in ("alive\n", "")


@pytest.mark.parametrize("prelude", ["set -e", "set -u", "set -eu"])
def test_a_strict_prelude_does_not_make_us_strict(prelude: str) -> None:
    assert run(beginning(prelude) + "false; echo $unset_one alive\n") == "alive\n"
