from __future__ import annotations

import dataclasses
import inspect

import pytest

from smartsim_bridge.protocol import messages
from smartsim_bridge.protocol.messages import FROM_CLIENT, FROM_SERVER, KINDS, Message
from tests.protocol.samples import ONE_OF_EACH


def test_every_dataclass_of_the_module_is_a_message() -> None:
    defined = {
        name: kind
        for name, kind in vars(messages).items()
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind)
    }
    assert defined == KINDS


def test_no_message_goes_both_ways() -> None:
    assert not set(FROM_CLIENT) & set(FROM_SERVER)


def test_the_samples_have_one_of_each() -> None:
    assert {type(one) for one in ONE_OF_EACH} == set(KINDS.values())


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_message_cannot_be_changed(message: Message) -> None:
    for field in dataclasses.fields(message):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, field.name, None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_docstring_says_since_when(kind: type) -> None:
    assert "Since " in (kind.__doc__ or "")


def test_exports_name_every_message() -> None:
    assert set(KINDS) <= set(messages.__all__)


def test_we_speak_our_own_protocol() -> None:
    assert messages.OLDEST_PROTOCOL <= messages.PROTOCOL_VERSION


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_what_is_about_a_command_names_it_first(kind: type) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    if kind not in (messages.Entry, messages.Start) and "command" in names:
        assert names[0] == "command"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_payload_is_last_and_may_be_empty(kind: type) -> None:
    fields = dataclasses.fields(kind)
    for place, field in enumerate(fields):
        if field.type == "bytes":
            assert (field.name, field.default, place) == ("payload", b"", len(fields) - 1)


@pytest.mark.parametrize("since", [1, 2])
def test_what_a_former_protocol_said_can_still_be_said(since: int) -> None:
    """A message of the oldest protocol needs no more fields than it had then."""
    needed = {
        kind.__name__: [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        for kind in KINDS.values()
        if f"Since {since}" in (kind.__doc__ or "")
    }
    assert {name: needed[name] for name in _NEEDED[since]} == _NEEDED[since]


# What may never be needed besides, while OLDEST_PROTOCOL stays as it is.
_NEEDED = {
    1: {
        "Hello": ["oldest", "newest", "version", "session"],
        "Welcome": ["protocol", "version", "host", "pid"],
        "Refusal": ["reason", "text"],
        "Start": ["command", "argv"],
        "Started": ["command", "pid"],
        "Input": ["command", "offset"],
        "Output": ["command", "stream", "offset"],
        "Exited": ["command", "code", "signal"],
    },
    2: {
        "Attach": ["command"],
        "Attached": ["command", "pid", "stdout", "stderr"],
        "Lost": ["command", "reason", "text"],
        "Forget": ["commands"],
        "Entry": ["request", "command", "argv", "state"],
    },
}


def test_states_and_reasons_are_words_that_differ() -> None:
    states = (messages.WAITING, messages.RUNNING, messages.EXITED, messages.ENDED)
    words = (*states, messages.FAILED, messages.UNKNOWN)
    reasons = (messages.NEVER_HEARD_OF, messages.OUTCOME_UNKNOWN, messages.OUTPUT_GONE)
    assert len({*words, *reasons}) == len(words) + len(reasons)
