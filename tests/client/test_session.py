"""The way back after a lost link: when it is sought, how often, and who is told what."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from smartsim_bridge.client.ladder import Ascent
from smartsim_bridge.client.session import (
    FIRST_PAUSE,
    FORGET_AT,
    LONGEST_PAUSE,
    SHORTEST_LIFE,
    Session,
    pauses,
)
from smartsim_bridge.client.talk import AboutCommand, Talk
from smartsim_bridge.errors import (
    AuthenticationRequired,
    BridgeClosed,
    CommandServerError,
    CommandTaken,
    LinkLost,
    NobodyListening,
    NoServer,
    PeerMisbehaved,
)
from smartsim_bridge.links.link import Link
from smartsim_bridge.protocol.messages import Bye, Exited, Forget, Message, Ping, Stopping
from tests.support.loops import run
from tests.support.near_side import SESSION, talk_by_hand
from tests.support.waiting import wait_until_async


class Heard:
    """A command that only listens."""

    def __init__(self, *, waits_for_user: bool = False) -> None:
        self.waits_for_user = waits_for_user
        self.messages: list[Message] = []
        self.resumed: list[bool] = []
        self.faults: list[CommandServerError] = []

    def handle(self, message: AboutCommand) -> None:
        self.messages.append(message)

    def resume(self, resumed: bool) -> None:
        self.resumed.append(resumed)

    def lost(self, fault: CommandServerError) -> None:
        self.faults.append(fault)


class Way:
    """Ways to a server that is the test; `fault` stands in each."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.is_free = asyncio.Event()
        self.is_free.set()
        self.climbs: list[float] = []  # when
        self.broken_off = 0
        self.is_deaf = False  # and arrives though it was broken off
        self.fars: list[Link] = []
        self.greet: Callable[[Link], None] = lambda far: None

    async def climb(self, former: Ascent) -> Ascent:
        self.climbs.append(asyncio.get_running_loop().time())
        try:
            await self.is_free.wait()
        except asyncio.CancelledError:
            self.broken_off += 1
            if not self.is_deaf:
                raise
        if self.fault is not None:
            raise self.fault
        return await self.arrive()

    async def arrive(self) -> Ascent:
        talk, far = await talk_by_hand()
        self.fars.append(far)
        self.greet(far)
        return _ascent(talk)

    def cut(self, fault: LinkLost | None = None) -> None:
        self.fars[-1].cut(fault or LinkLost("The cable was pulled"))


def _ascent(talk: Talk) -> Ascent:
    return Ascent(talk, "memory", (), (), started=False)


async def _session(patience: float = 60.0) -> tuple[Session, Way]:
    way = Way()
    session = Session(SESSION, await way.arrive(), way.climb, patience)
    return session, way


async def _lost(patience: float = 60.0) -> tuple[Session, Way, Heard]:
    """A session with a command, without a link, and with a climb that waits."""
    session, way = await _session(patience)
    command = Heard()
    session.register("c", command)
    way.is_free.clear()
    way.cut()
    if patience:
        await wait_until_async(lambda: way.climbs)
    return session, way, command


# --- when it is sought


def test_a_lost_link_is_sought_at_once_and_commands_resume() -> None:
    async def main() -> None:
        session, way, command = await _lost()
        changes: list[bool] = []
        session.on_change.append(changes.append)
        assert not session.is_linked
        assert not session.send(Ping(1))
        way.is_free.set()
        await session.linked()
        assert (session.reconnects, command.resumed, command.faults) == (1, [False], [])
        assert changes == [True]
        way.cut()
        await wait_until_async(lambda: session.reconnects == 2)
        assert changes == [True, False, True]
        await session.close()

    run(main())


def test_pauses_begin_with_none_and_grow_to_a_bound() -> None:
    drawn = list(itertools.islice(pauses(), 200))
    assert drawn[0] == 0.0
    for number, pause in enumerate(drawn[1:]):
        whole = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert whole / 2 <= pause <= whole
    assert len(set(drawn)) > 100  # many clients lost the same head


@pytest.mark.parametrize("is_useful", [False, True])
def test_a_server_that_drops_at_once_is_not_asked_without_a_pause(is_useful: bool) -> None:
    async def main() -> None:
        session, way = await _session()
        session.register("c", Heard())

        def greet(far: Link) -> None:
            def drop() -> None:
                if is_useful:
                    far.send(Exited("c", 0, None, final=False))
                far.cut(LinkLost("I do not want you"))

            asyncio.get_running_loop().call_soon(drop)

        way.greet = greet
        way.cut()
        await wait_until_async(lambda: len(way.climbs) == 5)
        between = [after - before for before, after in zip(way.climbs, way.climbs[1:])]
        assert all(seconds >= 0.9 * SHORTEST_LIFE for seconds in between)
        if not is_useful:  # it grows, too
            assert sum(between) >= FIRST_PAUSE / 2 * (1 + 2 + 4)
        await session.close()

    run(main())


def test_links_that_bring_nothing_do_not_renew_the_patience() -> None:
    async def main() -> None:
        session, way = await _session(patience=1.0)
        command = Heard()
        session.register("c", command)
        way.greet = lambda far: far.cut(LinkLost("no"))
        way.cut()
        await wait_until_async(lambda: command.faults)
        assert "No link has lasted" in command.faults[0].what

    run(main())


def test_after_close_nothing_is_sought() -> None:
    async def main() -> None:
        session, way, command = await _lost()
        await session.close()
        await wait_until_async(lambda: way.broken_off)
        assert [fault.what for fault in command.faults] == ["The bridge was closed"]
        way.is_free.set()
        for call in (session.revive, lambda: session.register("d", Heard())):
            with pytest.raises(BridgeClosed):
                call()
        with pytest.raises(BridgeClosed):
            await session.reconnect(way.climb)
        with pytest.raises(BridgeClosed):
            await session.linked()
        assert len(way.climbs) == 1
        await session.close()

    run(main())


def test_closing_with_a_link_says_goodbye_and_what_was_had() -> None:
    async def main() -> None:
        session, way = await _session()
        session.forget("c", is_over=True)
        await session.close()
        assert await way.fars[0].receive() == Forget(("c",))
        assert isinstance(await way.fars[0].receive(), Bye)
        assert not way.climbs

    run(main())


@pytest.mark.parametrize("successor", [False, True])
def test_a_server_that_ends_is_sought_only_where_another_follows(successor: bool) -> None:
    async def main() -> None:
        session, way = await _session()
        command = Heard()
        session.register("c", command)
        way.fars[0].send(Stopping("upgrade", successor=successor))
        way.cut()
        if successor:
            await wait_until_async(lambda: command.resumed)
        else:
            await wait_until_async(lambda: command.faults)
            assert "upgrade" in str(command.faults[0])
        assert bool(way.climbs) == successor
        await session.close()

    run(main())


def test_a_server_that_breaks_the_rules_is_not_sought() -> None:
    async def main() -> None:
        session, way = await _session()
        session.talk.link.cut(PeerMisbehaved("Byte 5 came where 0 was due"))
        await wait_until_async(lambda: session.fault)
        assert isinstance(session.fault, PeerMisbehaved)
        assert not way.climbs
        await session.close()

    run(main())


def test_the_late_end_of_a_former_talk_means_nothing() -> None:
    async def main() -> None:
        session, way = await _session()
        session.talk_over(LinkLost("of a link that was replaced"))
        assert session.is_linked
        assert not way.climbs
        await session.close()

    run(main())


# --- when it is given up


def test_patience_ends_and_says_what_stood_in_the_way() -> None:
    async def main() -> None:
        session, way, command = await _lost(patience=0.01)
        waiting = asyncio.ensure_future(session.linked())
        way.fault = LinkLost("No route to host")
        way.is_free.set()
        with pytest.raises(LinkLost, match="none came back: No route to host"):
            await waiting
        assert len(command.faults) == 1
        assert session.fault is not None
        assert session.fault.__cause__ is way.fault
        await session.close()

    run(main())


def test_a_port_where_nobody_listens_is_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartsim_bridge.client.session.REFUSED_SECONDS", 0.0)

    async def main() -> None:
        session, way, command = await _lost(patience=3600.0)
        way.fault = NobodyListening("Connection refused")
        way.is_free.set()
        await wait_until_async(lambda: command.faults)
        await session.close()

    run(main())


def test_a_fault_of_our_own_is_told_to_who_waits() -> None:
    async def main() -> None:
        session, way, command = await _lost(patience=0.01)
        way.fault = ZeroDivisionError("our own")
        way.is_free.set()
        await wait_until_async(lambda: command.faults)
        assert "our own" in str(command.faults[0])
        await session.close()

    run(main())


def test_after_giving_up_each_call_climbs_once_more() -> None:
    async def main() -> None:
        session, way = await _session(patience=0.0)
        way.fault = LinkLost("No route to host")
        way.cut()
        assert session.fault is not None
        assert not way.climbs
        with pytest.raises(LinkLost, match="No route"):
            await session.linked()
        assert len(way.climbs) == 1
        command = Heard()
        session.register("c", command)
        session.register("d", Heard())
        await wait_until_async(lambda: command.faults)
        assert len(way.climbs) == 2
        way.fault = None
        await session.linked()
        assert session.is_linked
        assert len(way.climbs) == 3
        await session.close()

    run(main())


@pytest.mark.parametrize("fault", [AuthenticationRequired("a code"), NoServer("none runs")])
def test_what_only_the_user_can_mend_is_not_tried_behind_his_back(
    fault: CommandServerError,
) -> None:
    async def main() -> None:
        session, way, command = await _lost()
        way.fault = fault
        way.is_free.set()
        await wait_until_async(lambda: command.faults)
        assert len(way.climbs) == 1
        with pytest.raises(type(fault)):
            await session.linked()
        # A server may have been started meanwhile: to look for it asks nobody anything.
        assert len(way.climbs) == (2 if isinstance(fault, NoServer) else 1)
        way.fault = None
        await session.reconnect(way.climb)
        assert session.is_linked
        await session.close()

    run(main())


@pytest.mark.parametrize("how", ["close", "reconnect"])
def test_a_climb_that_arrives_though_it_was_stopped_is_closed(how: str) -> None:
    async def main() -> None:
        session, way, command = await _lost()
        way.is_deaf = True
        if how == "close":
            await session.close()
        else:
            await session.reconnect(lambda former: way.arrive())
        links = 2 if how == "close" else 3
        await wait_until_async(lambda: len(way.fars) == links)
        await wait_until_async(lambda: any(far.mailbox.fault for far in way.fars[1:]))
        assert sum(far.mailbox.fault is None for far in way.fars) == links - 2
        assert session.is_linked == (how == "reconnect")
        assert command.resumed == ([False] if how == "reconnect" else [])
        await session.close()

    run(main())


# --- in the user's presence


def test_reconnect_takes_the_place_of_the_climb_that_was_under_way() -> None:
    async def main() -> None:
        session, way, command = await _lost()
        reconnecting = asyncio.ensure_future(session.reconnect(way.climb))
        await wait_until_async(lambda: way.broken_off)
        waiting = asyncio.ensure_future(session.linked())
        session.revive()
        way.is_free.set()
        await reconnecting
        assert await waiting is session.talk
        assert (len(way.climbs), session.reconnects, command.resumed) == (2, 1, [False])
        await session.reconnect(way.climb)  # there is a link: nothing to do
        assert len(way.climbs) == 2
        await session.close()

    run(main())


def test_reconnect_that_is_broken_off_lets_the_search_go_on() -> None:
    async def main() -> None:
        session, way, command = await _lost()
        reconnecting = asyncio.ensure_future(session.reconnect(way.climb))
        await wait_until_async(lambda: len(way.climbs) == 2)
        reconnecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reconnecting
        way.is_free.set()
        await session.linked()
        assert command.resumed == [False]
        await session.close()

    run(main())


def test_reconnect_that_is_broken_off_after_giving_up_leaves_the_fault() -> None:
    async def main() -> None:
        session, way, _ = await _lost(patience=0.0)
        before = session.fault
        reconnecting = asyncio.ensure_future(session.reconnect(way.climb))
        await wait_until_async(lambda: way.climbs)
        # Whoever asks meanwhile waits for this one, and starts no second climb.
        waiting = asyncio.ensure_future(session.linked())
        await asyncio.sleep(0)
        reconnecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reconnecting
        with pytest.raises(LinkLost):
            await waiting
        assert session.fault is before
        assert len(way.climbs) == 1
        await session.close()

    run(main())


def test_reconnect_of_a_bridge_that_is_closed_meanwhile_ends() -> None:
    async def main() -> None:
        session, way, _ = await _lost()
        reconnecting = asyncio.ensure_future(session.reconnect(way.climb))
        await wait_until_async(lambda: len(way.climbs) == 2)
        await session.close()
        with pytest.raises(BridgeClosed):
            await reconnecting
        assert way.broken_off == 2
        assert not session.is_linked

    run(main())


def test_reconnect_that_fails_says_why_and_everybody_is_told() -> None:
    async def main() -> None:
        session, way, command = await _lost()
        way.fault = AuthenticationRequired("a code")
        reconnecting = asyncio.ensure_future(session.reconnect(way.climb))
        await wait_until_async(lambda: len(way.climbs) == 2)
        way.is_free.set()
        with pytest.raises(AuthenticationRequired):
            await reconnecting
        assert [type(fault) for fault in command.faults] == [AuthenticationRequired]
        await session.close()

    run(main())


# --- what the server need not keep


def test_what_is_over_is_told_in_batches() -> None:
    async def main() -> None:
        session, way = await _session()
        names = [f"{number}" for number in range(FORGET_AT + 3)]
        for name in names:
            session.register(name, Heard())
        for name in names:
            session.forget(name, is_over=True)
        assert await way.fars[0].receive() == Forget(tuple(names[:FORGET_AT]))
        session.beat()
        assert await way.fars[0].receive() == Forget(tuple(names[FORGET_AT:]))
        session.forget("not over")
        session.beat()
        assert session._commands == {}
        assert session._over == []
        await session.close()
        assert isinstance(await way.fars[0].receive(), Bye)

    run(main())


def test_what_a_broken_link_may_have_taken_is_told_again() -> None:
    async def main() -> None:
        session, way, _ = await _lost()
        session.forget("later", is_over=True)
        session.beat()
        way.is_free.set()
        await session.linked()
        session.beat()
        assert await way.fars[1].receive() == Forget(("later",))
        way.cut()
        await wait_until_async(lambda: len(way.fars) == 3)
        assert await way.fars[2].receive() == Forget(("later",))
        assert len(session._said) <= 4 * FORGET_AT
        await session.close()

    run(main())


def test_what_is_attached_to_again_is_not_to_be_forgotten() -> None:
    async def main() -> None:
        session, way = await _session()
        first, second = Heard(), Heard()
        session.register("c", first)
        session.forget("c", is_over=True)
        session.register("c", second)
        session.register("c", first)
        assert [type(fault) for fault in second.faults] == [CommandTaken]
        session.beat()
        way.fars[0].send(Exited("c", 0, None))
        await wait_until_async(lambda: first.messages)
        assert second.messages == []
        await session.close()
        assert isinstance(await way.fars[0].receive(), Bye)

    run(main())


# --- where only the user can bring a link


async def _unanswered(patience: float) -> tuple[Session, Way, Heard, Heard]:
    """A session whose login needs the user, a command that waits for him, and one that does not."""
    session, way, hasty = await _lost(patience)
    waiting = Heard(waits_for_user=True)
    session.register("w", waiting)
    way.fault = AuthenticationRequired("a code is wanted")
    way.is_free.set()
    await wait_until_async(lambda: hasty.faults)
    return session, way, hasty, waiting


def test_a_command_that_waits_for_the_user_goes_on_after_his_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        session, way, hasty, waiting = await _unanswered(60.0)
        sought = asyncio.ensure_future(session.when_sought())
        way.fault = LinkLost("mistyped")
        with pytest.raises(LinkLost, match="mistyped"):
            await session.reconnect(way.climb)
        assert not waiting.faults
        way.fault = None
        await session.reconnect(way.climb)
        await sought
        assert (waiting.resumed, waiting.faults) == ([False], [])
        assert (hasty.resumed, len(hasty.faults)) == ([], 1)
        await session.close()
        assert [type(fault) for fault in waiting.faults] == [LinkLost]

    run(main())
    assert [record.getMessage().count("a code is wanted") for record in caplog.records] == [1]


@pytest.mark.parametrize("end", ["time", "close"])
def test_nobody_waits_for_the_user_for_ever(end: str) -> None:
    async def main() -> None:
        session, _, _, waiting = await _unanswered(0.3 if end == "time" else 60.0)
        sought = asyncio.ensure_future(session.when_sought())
        if end == "close":
            assert not waiting.faults
            await session.close()
        await sought
        await wait_until_async(lambda: waiting.faults)
        wanted = AuthenticationRequired if end == "time" else LinkLost
        assert [type(fault) for fault in waiting.faults] == [wanted]

    run(main())
