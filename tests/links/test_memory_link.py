from __future__ import annotations

import pytest

from smartsim_bridge.errors import LinkLost
from smartsim_bridge.links.memory_link import memory_links
from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.messages import Input, Ping
from tests.support.loops import run


def test_what_could_not_travel_elsewhere_does_not_travel_here() -> None:
    left, _ = memory_links()
    with pytest.raises(ValueError, match="too large"):
        left.send(Input("c", 0, payload=bytes(MAX_PAYLOAD + 1)))


def test_message_arrives_as_another_object() -> None:
    async def talk() -> None:
        left, right = memory_links()
        sent = Ping(1)
        left.send(sent)
        came = await right.receive()
        assert came == sent
        assert came is not sent

    run(talk())


def test_closing_one_end_closes_the_other() -> None:
    async def talk() -> None:
        left, right = memory_links()
        await left.close()
        with pytest.raises(LinkLost, match="peer closed"):
            await right.receive()
        with pytest.raises(LinkLost):
            right.send(Ping(1))

    run(talk())
