"""Any order of what may be asked of the spool, against plain bytes and small bounds."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from contextlib import ExitStack
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smartsim_bridge.server import spool as room_of_spool
from smartsim_bridge.server.spool import Kept, Spool

BOUNDS = {
    "OWN_MEMORY": 32,
    "SCARCE_MEMORY": 8,
    "SEGMENT": 64,
    "PIECE": 48,
    "COALESCED": 6,
    "STREAM_QUOTA": 500,
    "RETRY_SECONDS": 0.0,
}
MEMORY, QUOTA = 60, 1200
STREAMS = 3

which = st.integers(0, STREAMS - 1)


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bounds = ExitStack()
        for name, value in BOUNDS.items():
            self.bounds.enter_context(patch.object(room_of_spool, name, value))
        self.directory = tempfile.mkdtemp()
        self.spool = Spool(os.path.join(self.directory, "spool"), memory=MEMORY, quota=QUOTA)
        self.streams: list[Kept] = [self.spool.keep(f"{n:x}", 1) for n in range(STREAMS)]
        self.said = [bytearray() for _ in range(STREAMS)]

    def teardown(self) -> None:
        for kept in self.streams:
            kept.close()
        left = os.path.join(self.directory, "spool")
        try:
            assert (self.spool.in_memory, self.spool.on_disk) == (0, 0)
            assert not os.path.isdir(left) or os.listdir(left) == []
        finally:
            self.bounds.close()
            shutil.rmtree(self.directory)

    @rule(n=which, data=st.binary(max_size=100))
    def append(self, n: int, data: bytes) -> None:
        assert self.streams[n].append(data) == len(self.said[n])
        self.said[n] += data

    @rule(n=which, data=st.binary(min_size=1, max_size=100), limit=st.integers(0, 120))
    def append_where_files_cannot_grow(self, n: int, data: bytes, limit: int) -> None:
        """The kernel tears the write at the limit, as it does on a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            offset = self.streams[n].append(data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert offset == len(self.said[n])
        self.said[n] += data

    @rule(n=which, data=st.data(), size=st.integers(1, 80))
    def read(self, n: int, data: st.DataObject, size: int) -> None:
        kept = self.streams[n]
        offset = data.draw(st.integers(kept.base, kept.end))
        found = kept.read(offset, size)
        assert found == self.said[n][offset : offset + len(found)]
        assert len(found) <= size
        assert bool(found) == (offset < kept.end)

    @rule(n=which, data=st.data())
    def drop(self, n: int, data: st.DataObject) -> None:
        kept = self.streams[n]
        before = kept.base
        offset = data.draw(st.integers(0, kept.end))
        kept.drop_below(offset)
        assert before <= kept.base <= max(before, offset)
        if offset == kept.end:
            assert kept.base == kept.end

    @rule(n=which, data=st.data(), quota=st.integers(0, 300))
    def trim(self, n: int, data: st.DataObject, quota: int) -> None:
        kept = self.streams[n]
        before = kept.base
        below = data.draw(st.integers(0, kept.end))
        held = kept.end - before
        kept.trim(quota, below)
        assert before <= kept.base <= max(before, below)
        if held <= quota:
            assert kept.base == before
        elif below == kept.end:
            assert kept.end - kept.base <= quota

    @rule(n=which)
    def close_and_begin_again(self, n: int) -> None:
        self.streams[n].close()
        self.streams[n] = self.spool.keep(f"{n:x}", 1)
        self.said[n].clear()

    @rule(n=which)
    def ask_for_room(self, n: int) -> None:
        kept = self.streams[n]
        room = kept.room
        assert 0 <= room <= max(0, 500 - (kept.end - kept.base))
        assert bool(kept.why_full) == (room == 0)

    @precondition(lambda self: not self.spool.fault)
    @invariant()
    def each_keeps_to_its_share_of_memory(self) -> None:
        for kept in self.streams:
            assert kept.end - kept._fresh <= BOUNDS["OWN_MEMORY"] or kept.room

    @invariant()
    def all_that_is_kept_can_be_read(self) -> None:
        for kept, said in zip(self.streams, self.said):
            assert kept.end == len(said)
            offset = kept.base
            while offset < kept.end:
                piece = kept.read(offset, 50)
                assert piece == said[offset : offset + len(piece)]
                assert piece
                offset += len(piece)

    @invariant()
    def bytes_are_counted_once(self) -> None:
        held = sum(kept.end - kept.base for kept in self.streams)
        assert self.spool.in_memory + self.spool.on_disk == held
        directory = os.path.join(self.directory, "spool")
        if os.path.isdir(directory):
            sizes = [entry.stat().st_size for entry in os.scandir(directory)]
            assert sum(sizes) == self.spool.on_disk


TestSpool = SpoolMachine.TestCase
