from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.errors import PeerMisbehaved
from smartsim_bridge.protocol.codec import MAX_HEADER, MAX_PAYLOAD, decode, encode
from smartsim_bridge.protocol.messages import Exited, Hello, Input, Message, Ping, Start, Welcome
from tests.protocol.samples import ONE_OF_EACH, any_message


def header(**values: object) -> bytes:
    return json.dumps(values).encode()


@given(any_message)
def test_decoding_gives_what_was_encoded(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_every_kind_travels(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_noise_is_refused_and_nothing_else(frames: list[bytes]) -> None:
    with pytest.raises(PeerMisbehaved):
        decode(frames)


@given(any_message, st.data())
def test_one_changed_byte_is_a_message_or_refused(message: Message, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    frame = data.draw(st.sampled_from([one for one in frames if one]))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = decode([bytes(one) for one in frames])
    except PeerMisbehaved:
        return
    assert decode(encode(again)) == again


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_field_of_any_json_is_a_message_or_refused(message: Message, data: st.DataObject) -> None:
    content = json.loads(encode(message)[0])
    content[data.draw(st.sampled_from(sorted(content)))] = data.draw(JSON)
    try:
        again = decode([json.dumps(content).encode()])
    except PeerMisbehaved:
        return
    assert decode(encode(again)) == again


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_cut_header_is_refused(message: Message, data: st.DataObject) -> None:
    whole = encode(message)[0]
    with pytest.raises(PeerMisbehaved):
        decode([whole[: data.draw(st.integers(0, len(whole) - 1))]])


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [header(t="Ping", number=1)] * 3,
        [header(t="Ping", number=1), b"payload"],
        [header(t="Nonsense")],
        [header(t=["Ping"], number=1)],
        [header(number=1)],
        [header(t="Ping")],
        [header(t="Ping", number=True)],
        [header(t="Ping", number=1.0)],
        [header(t="Ping", number="1")],
        [header(t="Ping", number=2**63)],
        [b'{"t":"Ping","number":' + b"9" * 100_000 + b"}"],
        [b'{"t":"Ping","number":NaN}'],
        [b'{"t":"Stop","grace":Infinity}'],
        [b'{"t":"Stop","grace":1e999}'],
        [header(t="Start", command="c", argv="ls")],
        [header(t="Start", command="c", argv=["ls", 1])],
        [header(t="Start", command="c", argv=["ls"], env=[])],
        [header(t="Start", command="c", argv=["ls"], env={"A": None})],
        [header(t="Start", command="c", argv=["ls"], shell=1)],
        [header(t="Exited", command="c", code=[], signal=None)],
        [b"[" * 100_000],
        [b'{"a":' * 100_000],
        [b"\xff\xfe{\x00}\x00"],
        ['{"t":"Ping","number":1,"é":1}'.encode()],
        [b"cos\nsystem\n(S'true'\ntR."],
    ],
    ids=lambda frames: repr(frames)[:40],
)
def test_what_is_no_message_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(PeerMisbehaved) as refused:
        decode(frames)
    assert len(str(refused.value)) < 500
    assert refused.value.step == "decode"


def test_too_large_a_header_is_refused_unread() -> None:
    with pytest.raises(PeerMisbehaved, match="header of"):
        decode([b" " * (MAX_HEADER + 1)])


def test_too_large_a_payload_is_refused() -> None:
    start = header(t="Input", command="c", offset=0)
    assert decode([start, bytes(MAX_PAYLOAD)]) == Input("c", 0, payload=bytes(MAX_PAYLOAD))
    with pytest.raises(PeerMisbehaved, match="payload of"):
        decode([start, bytes(MAX_PAYLOAD + 1)])


def test_we_send_nothing_too_large() -> None:
    with pytest.raises(ValueError, match="too large"):
        encode(Input("c", 0, payload=bytes(MAX_PAYLOAD + 1)))
    with pytest.raises(ValueError, match="too large"):
        encode(Start("c", ("x" * MAX_HEADER,)))


def test_unknown_field_is_ignored() -> None:
    assert decode([header(t="Ping", number=1, colour="red")]) == Ping(1)


def test_missing_field_takes_its_default() -> None:
    came = decode([header(t="Welcome", protocol=1, version="9", host="h", pid=1)])
    assert came == Welcome(1, "9", "h", 1)


def test_whole_number_will_do_for_a_fraction() -> None:
    came = decode([header(t="Start", command="c", argv=[], timeout=2)])
    assert came == Start("c", (), timeout=2.0)


def test_payload_in_the_header_is_not_one() -> None:
    assert decode([header(t="Input", command="c", offset=0, payload="x")]) == Input("c", 0)


def test_undecodable_file_name_survives() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert decode(encode(Start("c", (name,)))) == Start("c", (name,))


def test_header_is_ascii() -> None:
    assert encode(Hello(2, 2, "é", "\U0001f40d"))[0].isascii()


def test_absent_values_travel_as_null() -> None:
    assert json.loads(encode(Exited("c", None, 9))[0])["code"] is None


def test_largest_header_is_judged_quickly() -> None:
    flood = b'{"t":"Start","command":"c","argv":[' + b'"",' * ((MAX_HEADER - 50) // 3) + b'""]}'
    began = time.thread_time()  # what others take of the CPU is no fault of the codec
    decode([flood])
    assert time.thread_time() - began < 20
