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
