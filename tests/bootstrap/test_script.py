from __future__ import annotations

import subprocess

import pytest

from smartsim_bridge.bootstrap.script import assignments, compose, quote, text_of, words
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


def mark(prelude: str, said: str = "alive") -> bytes:
    return compose("mark", body=f"mark() {{\n    echo {said}\n}}", prelude=prelude)


def test_the_prelude_talks_to_stderr_and_its_settings_stay() -> None:
    script = mark("echo loaded; LOADED=yes", "$LOADED $prelude_status")
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"yes 0\n", b"loaded\n")


def test_a_prelude_of_several_lines_runs_each() -> None:
    assert run(mark("A=1\nB=2\n# a comment", "$A$B")) == "12\n"


def test_the_status_of_a_failing_prelude_is_kept() -> None:
    assert run(mark("(exit 7)", "$prelude_status")) == "7\n"


@pytest.mark.parametrize("prelude", ["echo 'open", "cat <<END", "if true; then", "}", ")"])
def test_an_unfinished_prelude_cannot_change_the_script(prelude: str) -> None:
    assert run(mark(prelude)) in ("alive\n", "")  # some shells end at a syntax error in eval


def test_a_prelude_that_reads_gets_nothing() -> None:
    assert run(mark("cat; read line")) == "alive\n"


def test_a_script_that_was_cut_off_does_nothing() -> None:
    wishes = assignments(nonce="n0nce5", chosen="", python="", artifact="", size="0", full="")
    script = compose("answer", body=wishes + text_of("probe.sh"), prelude="touch /dev/null/x")
    ends = [*range(0, len(script), 97), *range(len(script) - 30, len(script) - 2)]
    for end in ends:
        assert run(script[:end]) == "", end
