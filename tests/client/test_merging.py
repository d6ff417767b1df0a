"""Both ways: what is done, for each that a file may have become on either side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.client.last_sync import LastSync
from smartsim_bridge.client.merging import Plan, merge
from smartsim_bridge.files.entries import FILE, FOLDER, LINK, Entry

OLD, NEW = 10**18, 2 * 10**18
STATES: dict[str, Entry | None] = {
    "none": None,
    "old": Entry("a", FILE, 5, OLD),
    "touched": Entry("a", FILE, 5, NEW),
    "grown": Entry("a", FILE, 9, NEW),
    "other": Entry("a", FILE, 7, NEW),
    "folder": Entry("a", FOLDER),
    "link": Entry("a", LINK, link="x"),
}


def decide(here: str, there: str, before: str, *, delete: bool = True) -> str:
    trees = [{"a": found} if (found := STATES[name]) else {} for name in (here, there, before)]
    plan = merge(*trees, delete=delete)
    done = [name for name, paths in vars(plan).items() if paths]
    return done[0] if done else "nothing"


@pytest.mark.parametrize(
    ("here", "there", "before", "done"),
    [
        ("old", "old", "old", "same"),
        ("old", "old", "none", "same"),
        ("folder", "folder", "none", "same"),
        ("link", "link", "none", "same"),
        ("grown", "old", "old", "up"),
        ("old", "grown", "old", "down"),
        ("touched", "old", "old", "up"),
        ("link", "old", "old", "up"),
        ("grown", "other", "old", "conflicts"),
        ("grown", "old", "none", "conflicts"),
        ("old", "touched", "none", "compare"),
        ("old", "folder", "none", "conflicts"),
        ("old", "none", "none", "up"),
        ("none", "old", "none", "down"),
        ("none", "old", "old", "delete_there"),
        ("old", "none", "old", "delete_here"),
        ("none", "grown", "old", "down"),
        ("grown", "none", "old", "up"),
        ("none", "none", "old", "nothing"),
    ],
)
def test_what_is_done(here: str, there: str, before: str, done: str) -> None:
    assert decide(here, there, before) == done
    expected = "apart" if done.startswith("delete") else done
    assert decide(here, there, before, delete=False) == expected


NAMES = st.sampled_from(["a", "a/b", "a/b/c", "d"])
TREES = st.dictionaries(NAMES, st.sampled_from([one for one in STATES.values() if one]))


@given(TREES, TREES, TREES, st.booleans())
def test_each_path_is_decided_once_and_folders_come_in_order(
    here: dict[str, Entry], there: dict[str, Entry], before: dict[str, Entry], delete: bool
) -> None:
    plan: Plan = merge(here, there, before, delete=delete)
    decided = [path for paths in vars(plan).values() for path in paths]
    assert sorted(decided) == sorted({*here, *there})
    assert plan.up == sorted(plan.up)
    assert plan.delete_here == sorted(plan.delete_here, reverse=True)


@given(TREES, TREES, TREES)
def test_nothing_is_removed_or_replaced_that_changed_on_its_side(
    here: dict[str, Entry], there: dict[str, Entry], before: dict[str, Entry]
) -> None:
    plan = merge(here, there, before, delete=True)
    for path in plan.delete_here:
        assert here[path] == before[path]
    for path in plan.up:
        assert path not in there or there[path] == before[path]
    for path in plan.down:
        assert path not in here or here[path] == before[path]


def test_what_two_folders_had_in_common_is_read_as_it_was_written(tmp_path: object) -> None:
    memory = LastSync(f"{tmp_path}/sync", "login1", "", "/here", "there")
    assert memory.read() == {}
    entries = [Entry("a\udce9\n", FILE, 5, OLD, 0o644), Entry("b", LINK, link="x")]
    memory.write(entries)
    assert list(memory.read().values()) == entries
    assert LastSync(f"{tmp_path}/sync", "login2", "", "/here", "there").read() == {}


def test_a_damaged_memory_is_none(tmp_path: object) -> None:
    memory = LastSync(f"{tmp_path}", "login1")
    memory.write([Entry("a", FILE, 5, OLD)])
    with open(memory._path, "a", encoding="ascii") as file:
        file.write('["../x", "f", 1, 1, 1, ""]\n')
    assert memory.read() == {}
