"""Which names a pattern means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartsim_bridge.files.delta import is_same_time
from smartsim_bridge.files.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "matches"),
    [
        ("*.py", "a.py", False, True),
        ("*.py", "deep/er/a.py", False, True),
        ("*.py", "a.pyc", False, False),
        ("data/*.nc", "data/a.nc", False, True),
        ("data/*.nc", "data/b/a.nc", False, False),
        ("data/*.nc", "x/data/a.nc", False, False),
        ("data/**/a", "data/a", False, True),
        ("data/**/a", "data/b/c/a", False, True),
        ("**/a", "a", False, True),
        ("data/**", "data/b/c", False, True),
        ("/top", "top", False, True),
        ("/top", "deep/top", False, False),
        ("cache/", "cache", True, True),
        ("cache/", "cache", False, False),
        ("cache/", "deep/cache", True, True),
        ("run-?", "run-1", False, True),
        ("run-?", "run-12", False, False),
        ("run-[0-4]", "run-3", False, True),
        ("run-[!0-4]", "run-3", False, False),
        ("a[b", "a[b", False, True),
        ("a.b", "axb", False, False),
        ("[^a]", "^", False, True),
    ],
)
def test_a_pattern_means(pattern: str, path: str, is_folder: bool, matches: bool) -> None:
    assert Patterns(exclude=(pattern,)).leaves_out(path, is_folder=is_folder) is matches


def test_a_folder_that_is_named_is_taken_with_all_in_it() -> None:
    patterns = Patterns(include=("src/", "*.txt"), exclude=("*.o",))
    assert not patterns.leaves_out("src/deep/a.c", is_folder=False)
    assert patterns.leaves_out("src/deep/a.o", is_folder=False)
    assert not patterns.leaves_out("b.txt", is_folder=False)
    assert patterns.leaves_out("b.c", is_folder=False)
    assert not patterns.leaves_out("other", is_folder=True)


@given(st.text(max_size=12))
def test_any_text_is_a_pattern(text: str) -> None:
    Patterns(exclude=(text,)).leaves_out("a/b", is_folder=False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1_234_567_890_123_456_789, 1_234_567_890_123_456_789, True),
        (1_234_567_890_123_456_789, 1_234_567_890_123_456_000, True),
        (1_234_567_890_123_456_789, 1_234_567_890_000_000_000, True),
        (1_234_567_891_500_000_000, 1_234_567_890_000_000_000, True),
        (1_234_567_890_123_456_789, 1_234_567_890_123_456_788, False),
        (1_234_567_890_123_456_789, 1_234_567_892_000_000_000, False),
    ],
)
def test_times_are_one_as_far_as_the_coarser_can_tell(one: int, other: int, same: bool) -> None:
    assert is_same_time(one, other) is is_same_time(other, one) is same
