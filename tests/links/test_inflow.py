from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smartsim_bridge.links import inflow
from smartsim_bridge.links.inflow import Inflow, Inflows, watches
from tests.support.footprint import own_descriptors
from tests.support.loops import run
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.skipif(not watches(), reason="the kernel does not tell what came")

KIB = 1024


class Library:
    """Reads by itself, as libzmq does, and delivers what it is told is whole."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        port = self.listening.getsockname()[1]
        self.inflows = Inflows({port}, most_quiet=4, take=self.take)
        self.ends: list[tuple[socket.socket, socket.socket]] = []
        self.whole: list[tuple[Inflow, list[bytes]]] = []

    def connect(self) -> tuple[socket.socket, socket.socket, Inflow]:
        """(peer, what the library holds, how it is watched)."""
        peer = socket.create_connection(self.listening.getsockname())
        own, _ = self.listening.accept()
        self.ends.append((peer, own))
        self.inflows.accept(own.fileno())
        found = self.inflows.find(own.fileno())
        assert found is not None
        return peer, own, found

    async def bring(self, peer: socket.socket, own: socket.socket, size: int) -> None:
        """The peer sends this much, and the library takes it."""
        while size > 0:
            sent = peer.send(bytes(min(size, 32 * KIB)))
            size -= sent
            await asyncio.sleep(0)  # a turn of the loop: the library is not always faster
            while sent > 0:
                sent -= len(own.recv(sent))

    def take(self, most: int) -> bool:
        for _ in range(most):
            if self.whole:
                one, parts = self.whole.pop(0)
                one.deliver(parts)
        return not self.whole

    def close(self) -> None:
        self.inflows.close()
        for end in (self.listening, *(end for pair in self.ends for end in pair)):
            end.close()


@asynccontextmanager
async def library() -> AsyncIterator[Library]:
    mine = Library()
    try:
        yield mine
    finally:
        mine.close()


async def looked() -> None:
    """Long enough for several looks."""
    await asyncio.sleep(10 * inflow.LOOK_SECONDS)


def is_over(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_kernel_tells_what_the_library_took() -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            await mine.bring(peer, own, 1000)
            peer.sendall(bytes(500))  # still in the kernel
            await wait_until_async(lambda: one.under_way == 1000)
            own.recv(500)
            one.look(0.0)
            assert one.under_way == 1500

    run(talk())


def test_delivered_message_is_not_under_way() -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            await mine.bring(peer, own, 2 * inflow.PART_LEAST + 300 + 70)
            one.deliver([bytes(100), bytes(200)])
            one.look(0.0)
            assert one.under_way == 70

    run(talk())


def test_dropped_parts_of_a_message_are_not_under_way() -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            await mine.bring(peer, own, 3 * inflow.PART_LEAST + 300 + 70)
            one.deliver([bytes(100)])
            for _ in range(2):
                one.drop(bytes(100))
            one.look(0.0)
            assert one.under_way == 70

    run(talk())


def test_bytes_of_no_message_are_forgotten_once_another_was_delivered() -> None:
    """Heartbeats: over days they would add up to what is too much."""

    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            await mine.bring(peer, own, 5000)
            one.look(0.0)
            one.settle()
            await mine.bring(peer, own, inflow.PART_LEAST + 100)
            one.deliver([bytes(100)])
            one.look(0.0)
            assert one.under_way < 200

    run(talk())


@pytest.mark.parametrize("speaks", [False, True])
def test_too_much_of_no_whole_message_is_cut(speaks: bool) -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            each = inflow.FIRST_EACH
            if speaks:
                await mine.bring(peer, own, 100)
                one.deliver([bytes(100)])
                each = inflow.EACH
            await mine.bring(peer, own, each - 10_000)
            await looked()
            assert not is_over(peer)
            await mine.bring(peer, own, 20_000)
            await wait_until_async(lambda: is_over(peer))

    run(talk())


def test_whole_messages_that_wait_are_no_reason_to_cut() -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            part = bytes(inflow.FIRST_EACH)
            for _ in range(12):
                mine.whole.append((one, [part]))
            for _ in range(12):
                await mine.bring(peer, own, len(part) + inflow.PART_LEAST)
            await wait_until_async(
                lambda: one.has_spoken
            )  # asked for what waits, before a judgement
            await looked()
            assert not is_over(peer)

    run(talk())


def test_many_small_beginnings_are_cut_together_the_largest_first() -> None:
    async def talk() -> None:
        async with library() as mine:
            inflows = [mine.connect() for _ in range(4)]
            share = inflow.FIRST_ALL // 4
            for number, (peer, own, _) in enumerate(inflows):
                await mine.bring(peer, own, share - 1000 if number else share + 5000)
            await wait_until_async(lambda: is_over(inflows[0][0]))
            assert [is_over(peer) for peer, _, _ in inflows[1:]] == [False] * 3

    run(talk())


def test_oldest_of_too_many_that_never_spoke_is_cut() -> None:
    async def talk() -> None:
        async with library() as mine:
            talker, own, one = mine.connect()
            await mine.bring(talker, own, 100)
            one.deliver([bytes(65)])
            peers = [mine.connect()[0] for _ in range(5)]
            await wait_until_async(lambda: is_over(peers[0]))
            assert not is_over(talker)
            assert not is_over(peers[-1])

    run(talk())


def test_what_lies_in_the_kernel_is_dropped_with_the_cut() -> None:
    async def talk() -> None:
        async with library() as mine:
            peer, own, one = mine.connect()
            peer.sendall(bytes(60_000))
            one.cut()
            assert own.recv(60_000) == b""

    run(talk())


def test_ended_connection_leaves_no_descriptor() -> None:
    async def talk() -> None:
        async with library() as mine:
            before = len(own_descriptors())
            _, own, one = mine.connect()
            mine.inflows.end(own.fileno())
            assert one.fileno() == -1
            assert len(mine.inflows) == 0
            assert len(own_descriptors()) == before + 2

    run(talk())


def test_number_that_is_something_else_by_now_is_left_alone() -> None:
    async def talk() -> None:
        async with library() as mine:
            reading, writing = os.pipe()
            left, right = socket.socketpair()
            with left, right, socket.create_server(("127.0.0.1", 0)) as other:
                before = len(own_descriptors())
                for descriptor in (reading, left.fileno(), other.fileno(), 10_000):
                    mine.inflows.accept(descriptor)
                    assert mine.inflows.find(descriptor) is None
                assert len(own_descriptors()) == before
            for descriptor in (reading, writing):
                os.close(descriptor)

    run(talk())
