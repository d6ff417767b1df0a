from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.bootstrap.facts import BeaconFound, Facts, PythonFound, parse_answer
from smartsim_bridge.errors import ProbeFailed
from tests.bootstrap.samples import CREDENTIALS, NONCE

LINES = {
    "system": "Linux",
    "host": "login1",
    "arch": "x86_64",
    "boot_id": "b00t",
    "uid": "1000",
    "user": "alice",
    "home": "/home/alice",
    "ssh_connection": "10.0.0.1 5 10.0.0.2 22",
    "prelude_status": "",
    "state_dir": "/home/alice/state",
    "state_writable": "yes",
    "searched": "yes",
}


def answer(*more: str, **changes: str) -> str:
    pairs = [f"{key}={value}" for key, value in {**LINES, **changes}.items()]
    lines = [f"{NONCE} {pair}" for pair in [*pairs, *more]]
    return "\n".join([f"\n{NONCE}-BEGIN", *lines, f"{NONCE}-END\n"])


def test_a_plain_answer_gives_the_facts() -> None:
    assert parse_answer(answer(), NONCE) == Facts(
        host="login1",
        boot_id="b00t",
        uid=1000,
        user="alice",
        home="/home/alice",
        state_dir="/home/alice/state",
        state_writable=True,
        ssh_connection="10.0.0.1 5 10.0.0.2 22",
        system="Linux",
        arch="x86_64",
    )


def test_noise_before_after_and_between_changes_nothing() -> None:
    noisy = "motd\nuid=0\n" + answer().replace("\n", "\n[1] done\nuid=7\nhalf a line") + "bye"

    assert parse_answer(noisy, NONCE) == parse_answer(answer(), NONCE)


def test_an_answer_with_carriage_returns_is_understood() -> None:
    assert parse_answer(answer().replace("\n", "\r\n"), NONCE) == parse_answer(answer(), NONCE)


def test_an_answer_to_another_question_is_noise() -> None:
    with pytest.raises(ProbeFailed, match="ended before our script"):
        parse_answer(answer(), "another")


def test_beacons_and_pythons_are_records() -> None:
    facts = parse_answer(
        answer(
            "beacon=/s/a.json",
            'beacon_text={"a": 1}',
            "beacon_alive=yes",
            "beacon_start=777",
            "beacon_key=k=v",
            "beacon=/s/b.json",
            "beacon_text=",
            "beacon_alive=no",
            "artifact=/s/far/x.pyz",
            "python=/usr/bin/python3",
            "python_status=3",
            "python_said=hello PYTHON|3.9.2||No module named 'zmq' ",
            "python=/opt/python3",
            "python_status=127",
            "python_said=",
        ),
        NONCE,
    )
    assert facts.beacons == (
        BeaconFound("/s/a.json", '{"a": 1}', "k=v", alive=True, start=777),
        BeaconFound("/s/b.json", ""),
    )
    assert facts.artifacts == ("/s/far/x.pyz",)
    assert facts.pythons == (
        PythonFound("/usr/bin/python3", (3, 9, 2), why_no_zmq="No module named 'zmq'"),
        PythonFound("/opt/python3", fault="ended with status 127"),
    )


def test_a_long_complaint_of_a_python_keeps_its_first_and_last_words() -> None:
    said = "Fatal Python error " + "x" * 500 + " No module named 'encodings'"
    facts = parse_answer(
        answer("python=/p", "python_status=1", f"python_said={said}"),
        NONCE,
    )
    assert facts.pythons[0].fault.startswith("Fatal Python error")
    assert facts.pythons[0].fault.endswith("No module named 'encodings'")
    assert len(facts.pythons[0].fault) < 250


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"uid": "root"}, "root"),
        ({"host": ""}, "host is empty"),
        ({"home": ""}, "home is empty"),
        ({"searched": "perhaps"}, "neither yes nor no"),
        ({"prelude_status": "x"}, "x"),
    ],
)
def test_a_value_that_cannot_be_is_an_error(changes: dict[str, str], why: str) -> None:
    with pytest.raises(ProbeFailed, match=why):
        parse_answer(answer(**changes), NONCE)


@pytest.mark.parametrize("missing", LINES)
def test_a_missing_line_is_an_error_that_names_it(missing: str) -> None:
    text = answer().replace(f"{NONCE} {missing}={LINES[missing]}\n", "")

    with pytest.raises(ProbeFailed, match=missing):
        parse_answer(text, NONCE)


def test_a_record_line_without_its_record_is_an_error() -> None:
    with pytest.raises(ProbeFailed, match="python_said before any python"):
        parse_answer(answer("python_said=x"), NONCE)


def test_no_answer_at_all_quotes_what_was_said() -> None:
    with pytest.raises(ProbeFailed) as raised:
        parse_answer("no such module\n", NONCE, host="login1", errors="\x1bX")
    assert str(raised.value).startswith(
        "The shell ended before our script: does the prelude exit? [host login1, step probe]. "
    )
    assert raised.value.noise == "  no such module\n  \\x1bX"


def test_an_answer_that_breaks_off_shows_no_keys() -> None:
    cut = answer(f"beacon_key={CREDENTIALS.to_json()}").partition("x" * 20)[0]

    with pytest.raises(ProbeFailed, match="broke off") as raised:
        parse_answer("motd\n" + cut, NONCE)
    assert raised.value.noise == "  motd"


@given(st.text(max_size=300))
def test_any_other_text_is_a_probe_failure_and_nothing_else(text: str) -> None:
    for whole in (text, f"{NONCE}-BEGIN{text}{NONCE}-END", answer(text.replace("\n", " "))):
        with contextlib.suppress(ProbeFailed):
            parse_answer(whole, NONCE)


def test_the_representation_of_a_beacon_file_shows_no_keys() -> None:
    assert "secret" not in repr(BeaconFound("/s", "{}", key_text='"client_secret"'))
