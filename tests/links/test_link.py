"""What every link must do, whatever it is made of."""

from __future__ import annotations

from contextlib import suppress

import pytest

from smartsim_bridge.errors import LinkLost, PeerMisbehaved
from smartsim_bridge.links.link import Link, Mailbox
from smartsim_bridge.protocol.codec import MAX_PAYLOAD
from smartsim_bridge.protocol.messages import Bye, Input, Ping, Pong, Stopping
from tests.links.pairs import KINDS, Recording, connected
from tests.protocol.samples import ONE_OF_EACH
from tests.support.loops import run

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_every_message_travels_both_ways(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            for speaker, listener in ((client, server), (server, client)):
                for message in ONE_OF_EACH:
                    speaker.send(message)
                for message in ONE_OF_EACH:
                    assert await listener.receive() == message

    run(talk())


@every_kind
def test_many_messages_keep_their_order(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            for number in range(3000):
                client.send(Ping(number))
                server.send(Pong(number))
            for number in range(3000):
                assert await server.receive() == Ping(number)
                assert await client.receive() == Pong(number)

    run(talk())


@every_kind
def test_largest_payload_travels(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            pieces = [bytes([number]) * MAX_PAYLOAD for number in range(8)]
            for number, piece in enumerate(pieces):
                client.send(Input("c", number * MAX_PAYLOAD, payload=piece))
            for piece in pieces:
                message = await server.receive()
                assert isinstance(message, Input)
                assert message.payload == piece

    run(talk())


@every_kind
@pytest.mark.parametrize("end", ["client", "server"])
def test_last_word_arrives_before_the_end(kind: str, end: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            leaving, staying = (client, server) if end == "client" else (server, client)
            words = [Bye()] if end == "client" else [Pong(n) for n in range(500)]
            for word in [*words, Stopping("now")]:
                leaving.send(word)
            await leaving.close()
            for word in [*words, Stopping("now")]:
                assert await staying.receive() == word
            with pytest.raises(LinkLost):
                await staying.receive()

    run(talk())


@every_kind
@pytest.mark.parametrize("end", ["client", "server"])
def test_link_that_is_over_stays_over(kind: str, end: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            leaving, staying = (client, server) if end == "client" else (server, client)
            await leaving.close()
            for link in (leaving, staying):
                for _ in range(2):
                    with pytest.raises(LinkLost):
                        await link.receive()
                    with pytest.raises(LinkLost):
                        link.send(Ping(1))
            await leaving.close()
            await staying.close()

    run(talk())


@every_kind
def test_cut_link_says_why_here_and_ends_there(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            server.cut(PeerMisbehaved("It misbehaved"))
            with pytest.raises(PeerMisbehaved, match="It misbehaved"):
                await server.receive()
            with pytest.raises(LinkLost):
                await client.receive()

    run(talk())


@every_kind
def test_receiver_gets_what_waits_and_what_comes_and_the_end(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            client.send(Ping(1))
            client.send(Ping(2))
            assert await server.receive() == Ping(1)
            recording = Recording()
            server.deliver(recording)
            client.send(Ping(3))
            await client.close()
            await recording.over
            assert recording.came == [Ping(2), Ping(3)]
            assert len(recording.losses) == 1

    run(talk())


@every_kind
def test_receiver_that_objects_cuts_the_link(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            recording = Recording(PeerMisbehaved("Not like this"))
            server.deliver(recording)
            client.send(Ping(1))
            with suppress(LinkLost):  # within one process it is cut by now
                client.send(Ping(2))
            await recording.over
            assert recording.came == [Ping(1)]
            assert "Not like this" in recording.losses[0]
            with pytest.raises(LinkLost):
                await client.receive()

    run(talk())


@every_kind
def test_receiver_that_objects_to_what_waited_cuts_the_link(kind: str) -> None:
    async def talk() -> None:
        async with connected(kind) as (client, server):
            for number in (1, 2, 3):
                client.send(Ping(number))
            assert await server.receive() == Ping(1)
            recording = Recording(PeerMisbehaved("Not like this"))
            server.deliver(recording)
            await recording.over
            assert recording.came == [Ping(2)]
            assert len(recording.losses) == 1
            with pytest.raises(LinkLost):
                await client.receive()

    run(talk())


@every_kind
def test_info_tells_the_kind_of_link(kind: str) -> None:
    async def talk() -> list[Link]:
        async with connected(kind) as pair:
            return list(pair)

    names = {link.info.kind for link in run(talk())}
    assert names == {"stream" if kind == "unix" else kind}


def test_what_came_before_the_end_is_still_delivered() -> None:
    async def talk() -> None:
        mailbox, recording = Mailbox(), Recording()
        mailbox.put(Ping(1))
        mailbox.close(LinkLost("Gone"))
        mailbox.put(Ping(2))
        mailbox.deliver(recording)
        assert recording.came == [Ping(1)]
        assert len(recording.losses) == 1

    run(talk())


def test_objection_to_what_came_before_the_end_still_tells_the_end() -> None:
    async def talk() -> None:
        mailbox, recording = Mailbox(), Recording(PeerMisbehaved("Not like this"))
        mailbox.put(Ping(1))
        mailbox.close(LinkLost("Gone"))
        with pytest.raises(PeerMisbehaved):
            mailbox.deliver(recording)
        assert len(recording.losses) == 1

    run(talk())


def test_first_reason_for_the_end_stays() -> None:
    async def talk() -> None:
        mailbox = Mailbox()
        mailbox.close(LinkLost("First"))
        mailbox.close(LinkLost("Second"))
        with pytest.raises(LinkLost, match="First"):
            await mailbox.take()

    run(talk())
