"""How often a test does what it does: enough for every run, and more in long ones.

def test_...(amount):
    for _ in range(amount(12, soak=50)):
"""

from __future__ import annotations

from typing import Protocol

import pytest

__all__ = ["Amount", "amount"]


class Amount(Protocol):
    def __call__(self, usual: int, *, soak: int) -> int: ...


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Amount:
    """Chooses: the first number in every run, `soak` with --soak."""
    is_long = request.config.getoption("--soak", default=False)

    def choose(usual: int, *, soak: int) -> int:
        return soak if is_long else usual

    return choose
