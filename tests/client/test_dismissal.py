"""A server of another protocol is told to end, and has ended when that is said."""

from __future__ import annotations

import pytest

from smartsim_bridge.client.ladder import climb
from smartsim_bridge.client.talk import WishGranted
from smartsim_bridge.errors import NoServer, VersionMismatch
from smartsim_bridge.protocol.messages import Hello, Message
from smartsim_bridge.settings import Settings
from tests.support.local_server import LocalServer
from tests.support.loops import run

SESSION = "d" * 32
SECONDS = 60.0


@pytest.fixture
def _from_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartsim_bridge.client.talk.OLDEST_PROTOCOL", 9)
    monkeypatch.setattr("smartsim_bridge.client.talk.PROTOCOL_VERSION", 9)


@pytest.mark.usefixtures("_from_another_time")
@pytest.mark.parametrize("transport", ["local", "direct"])
def test_it_ends_and_tells_its_version(transport: str, local_server: LocalServer) -> None:
    settings = Settings.gather(transport=transport)
    with pytest.raises(WishGranted) as granted:
        run(climb(settings, SESSION, dismiss=True), SECONDS)
    assert granted.value.version
    assert local_server.process.wait(SECONDS) == 0
    with pytest.raises(NoServer):
        run(climb(settings, SESSION, dismiss=True), SECONDS)


@pytest.mark.usefixtures("_from_another_time")
def test_unasked_it_goes_on(local_server: LocalServer) -> None:
    with pytest.raises(VersionMismatch):
        run(climb(Settings.gather(), SESSION), SECONDS)
    assert local_server.process.poll() is None


def test_one_that_fits_is_not_dismissed(local_server: LocalServer) -> None:
    async def main() -> str:
        ascent = await climb(Settings.gather(), SESSION, dismiss=True)
        await ascent.close()
        return ascent.transport

    assert run(main(), SECONDS) == "local"
    assert local_server.process.poll() is None


@pytest.mark.usefixtures("_from_another_time")
def test_one_that_is_too_old_to_understand_is_to_be_ended_by_hand(
    local_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As servers were before they knew the wish: only our greeting tells it apart."""

    def without_wish(*fields: object) -> Message:
        return Hello(*fields[:4])  # type: ignore[arg-type]

    monkeypatch.setattr("smartsim_bridge.client.talk.Hello", without_wish)
    with pytest.raises(VersionMismatch, match="end its process on the head"):
        run(climb(Settings.gather(), SESSION, dismiss=True), SECONDS)
    assert local_server.process.poll() is None
